// Package localapi is both ends of the socket through which a server on this
// machine is asked, and which only root can open.
package localapi

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"strings"
	"syscall"
)

// maxAnswer bounds an answer: any process may own the socket.
const maxAnswer = 4 << 20

// Unreachable is the error when no server answers.
type Unreachable struct {
	Err  error
	Hint string // what to do
}

func (u *Unreachable) Error() string { return u.Err.Error() + "; " + u.Hint }
func (u *Unreachable) Unwrap() error { return u.Err }

// Ask sends a request and returns the body of the answer, JSON. The error is a
// *Unreachable, the server's own words, or says what is wrong with the answer.
func Ask(ctx context.Context, socket, method, path string) ([]byte, error) {
	client := &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, method, "http://cleat"+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil, &Unreachable{fmt.Errorf("no server answers at %s", socket),
			"is cleat running? Its log says why if it ended; `cleat server` or `cleat agent` starts it, as root"}
	case errors.Is(err, fs.ErrPermission):
		return nil, &Unreachable{fmt.Errorf("%s: %w", socket, fs.ErrPermission), "only root may ask; try it with sudo"}
	case errors.Is(err, context.DeadlineExceeded):
		return nil, fmt.Errorf("%s: no answer in time", socket)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", socket, err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("%s: read the answer: %w", socket, err)
	case len(body) > maxAnswer:
		return nil, fmt.Errorf("%s: the answer is larger than %d KiB", socket, maxAnswer>>10)
	case res.StatusCode != http.StatusOK:
		return nil, refusal(socket, res, body)
	}
	return body, nil
}

// refusal is the error the server answered with.
func refusal(socket string, res *http.Response, body []byte) error {
	var answer struct {
		Error string `json:"error"`
	}
	if strings.HasPrefix(res.Header.Get("Content-Type"), "application/json") && json.Unmarshal(body, &answer) == nil && answer.Error != "" {
		return errors.New(answer.Error)
	}
	if res.StatusCode == http.StatusNotFound {
		return fmt.Errorf("%s: answered %s: an agent does not do what servers do; run it on a server", socket, res.Status)
	}
	return fmt.Errorf("%s: answered %s", socket, res.Status)
}
