package localapi

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

func serve(t *testing.T, handler http.HandlerFunc) (socket string) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: handler}
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return socket
}

func TestAsk(t *testing.T) {
	socket := serve(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.Method + r.URL.Path {
		case "POST/do":
			io.WriteString(w, `{"done":true}`)
		case "POST/refuse":
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusConflict)
			io.WriteString(w, `{"error":"field x is wrong"}`)
		case "GET/endless":
			w.Write(make([]byte, maxAnswer+1))
		case "GET/slow":
			<-r.Context().Done()
		case "POST/unknown":
			http.NotFound(w, r)
		default:
			http.Error(w, "no", http.StatusTeapot)
		}
	})
	if body, err := Ask(t.Context(), socket, http.MethodPost, "/do"); err != nil || string(body) != `{"done":true}` {
		t.Errorf("got %s, %v", body, err)
	}
	for request, want := range map[string]string{
		"POST /refuse": "field x is wrong", "GET /endless": "larger than", "GET /other": "418", "POST /unknown": "run it on a server",
	} {
		method, path, _ := strings.Cut(request, " ")
		if _, err := Ask(t.Context(), socket, method, path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", request, err, want)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), 1)
	defer cancel()
	if _, err := Ask(ctx, socket, http.MethodGet, "/slow"); err == nil || !strings.Contains(err.Error(), "no answer in time") {
		t.Errorf("slow: %v", err)
	}
	var gone *Unreachable
	if _, err := Ask(t.Context(), filepath.Join(t.TempDir(), "none"), http.MethodGet, "/"); !errors.As(err, &gone) || gone.Hint == "" {
		t.Errorf("no server: %v", err)
	}
}
