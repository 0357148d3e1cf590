package joinapi

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/cleat-dev/cleat/core/internal/token"
)

// Rotation is the body of a request to PathToken.
type Rotation struct {
	NewToken string `json:"newToken"` // short or full; secret
}

// ParseRotation reads and checks a Rotation and returns its token. Errors never
// quote it.
func ParseRotation(text []byte) (token.Token, error) {
	var r Rotation
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&r); err != nil {
		return token.Token{}, errors.New(`new token: want {"newToken": "…"}`)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return token.Token{}, errors.New("new token: something stands behind it")
	}
	tok, err := token.Parse(r.NewToken)
	if err != nil {
		return token.Token{}, fmt.Errorf("new %w", err)
	}
	return tok, nil
}
