package joinapi

import (
	"encoding/json"
	"strings"
	"testing"
)

func FuzzParseRotation(f *testing.F) {
	for _, s := range []string{`{"newToken":"x"}`, `{"newToken":"K10::server:x"}`, `{"newToken":"abcdef.0123456789abcdef"} `, `{"newToken":"x"}y`, `{"newToken":1}`, `[]`, ``} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		tok, err := ParseRotation(text)
		if err != nil {
			return
		}
		again, err := json.Marshal(Rotation{NewToken: tok.Format()})
		if err != nil {
			t.Fatal(err)
		}
		if same, err := ParseRotation(again); err != nil || same != tok || tok.Password == "" {
			t.Fatalf("%q became %#v, then %#v, %v", text, tok, same, err)
		}
	})
}

func TestParseRotationHidesTheSecret(t *testing.T) {
	for _, text := range []string{`{"newToken":"K10s3cret"}`, `{"newToken":["s3cret"]}`, `{"newToken":"s3cret`, `{"s3cret":"x"}`} {
		if _, err := ParseRotation([]byte(text)); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", text, err)
		}
	}
}
