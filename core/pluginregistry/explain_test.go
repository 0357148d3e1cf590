package pluginregistry

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// dialFailure is what a dial gave, as Dialer.DialContext wraps it.
func dialFailure(err error) error {
	return &net.OpError{Op: "dial", Net: "tcp", Err: err}
}

// unmade is the error of a connection that was not made in time, which only net
// can make.
func unmade(t *testing.T) error {
	t.Helper()
	_, err := (&net.Dialer{Timeout: time.Nanosecond}).DialContext(t.Context(), "tcp", "127.0.0.1:1")
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v is no deadline any more", err)
	}
	return err
}

func TestNoConnection(t *testing.T) {
	const mirror = "name a mirror in registries.yaml"
	timeout := unmade(t)
	for name, tc := range map[string]struct {
		err  error
		want []string
	}{
		"no such name": {dialFailure(&net.DNSError{Err: "no such host", Name: "registry.test", IsNotFound: true}),
			[]string{"no machine is called registry.test", "spelling", mirror}},
		"name server silent": {dialFailure(&net.DNSError{UnwrapErr: errors.Unwrap(timeout), Err: "i/o timeout", Name: "registry.test", IsTimeout: true}),
			[]string{"the name registry.test cannot be looked up (i/o timeout)", "spelling", mirror}},
		"name server broken": {dialFailure(&net.DNSError{Err: "server\nmisbehaving", Name: "registry.test", IsTemporary: true}),
			[]string{"cannot be looked up", mirror}},
		"packets lost": {timeout, []string{"no connection in 10s", "firewall", mirror}},
		"nobody there": {dialFailure(os.NewSyscallError("connect", syscall.ECONNREFUSED)), []string{"refused the connection", mirror}},
		"no route":     {dialFailure(os.NewSyscallError("connect", syscall.EHOSTUNREACH)), []string{"no connection (connect: no route to host)", mirror}},
		"proxy": {&net.OpError{Op: "proxyconnect", Net: "tcp", Err: dialFailure(&net.DNSError{Err: "no such host", Name: "proxy.test", IsNotFound: true})},
			[]string{"the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY) does not help", "proxy.test", "NO_PROXY"}},
	} {
		t.Run(name, func(t *testing.T) {
			c := NewClient(Options{})
			dials := 0
			c.transports["registry.test"] = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
				dials++
				return nil, tc.err
			}}
			ref, err := ParseReference("oci://registry.test/store:1")
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Pull(t.Context(), ref)
			checkNoConnection(t, "pull registry.test/store:1: registry registry.test: ", err, tc.want)
			pulls := dials
			a, err := NewArtifact(guesttest.Guest{Manifest: guesttest.Admission("policy")}.Wasm())
			if err != nil {
				t.Fatal(err)
			}
			_, err = c.Push(t.Context(), ref, a)
			checkNoConnection(t, "push registry.test/store:1: registry registry.test: ", err, tc.want)
			if pulls != 1 || dials != 2 {
				t.Errorf("%d dials for a pull and %d for a push, want one each", pulls, dials-pulls)
			}
		})
	}
}

func checkNoConnection(t *testing.T, prefix string, err error, want []string) {
	t.Helper()
	if err == nil || !strings.HasPrefix(err.Error(), prefix) {
		t.Fatalf("got %v, want it to begin with %q", err, prefix)
	}
	for _, w := range want {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("got %v, want %q in it", err, w)
		}
	}
	if strings.ContainsAny(err.Error(), "\n\x1b") || strings.Contains(err.Error(), "no end after") {
		t.Errorf("got %q", err)
	}
}

// A registry that takes the connection and says nothing was reached.
func TestNoAnswer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer server.Close()
	host := server.Listener.Addr().String()
	file, err := registriesfile.Parse([]byte(`mirrors: {"` + host + `": {endpoint: ["` + server.URL + `"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(Options{Registries: file})
	defer c.Close()
	c.transports[host] = &http.Transport{ResponseHeaderTimeout: time.Millisecond}
	ref, err := ParseReference("oci://" + host + "/store:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Pull(t.Context(), ref)
	checkNoConnection(t, "pull "+host+"/store:1: registry "+host+": ", err, []string{"is connected and does not answer", "mirror"})
}

// Two endpoints that fail make one line.
func TestNoConnectionToMirror(t *testing.T) {
	file, err := registriesfile.Parse([]byte(`mirrors: {"registry.test": {endpoint: ["https://mirror.test"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(Options{Registries: file})
	for _, host := range []string{"registry.test", "mirror.test"} {
		c.transports[host] = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			return nil, dialFailure(&net.DNSError{Err: "no such host", Name: host, IsNotFound: true})
		}}
	}
	ref, err := ParseReference("oci://registry.test/store:1")
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.Pull(t.Context(), ref)
	checkNoConnection(t, "pull registry.test/store:1: mirror mirror.test of registry.test: ", err,
		[]string{"no machine is called mirror.test", "; and registry registry.test: no machine is called registry.test"})
}

func TestClip(t *testing.T) {
	if got, want := clip("a\x1bb\u009bc\u202ed\u2028e\u2067\xff ü"), "a?b?c?d?e?? ü"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := clip(strings.Repeat("ü", 201)); got != strings.Repeat("ü", 200)+"…" {
		t.Errorf("got %q", got)
	}
}

func TestJoin(t *testing.T) {
	if err := join(nil, nil); err != nil {
		t.Errorf("nothing is %v", err)
	}
	err := join(ErrNotFound, nil, ErrNotSigned, errors.New("not found"))
	if got, want := err.Error(), "not found; and "+ErrNotSigned.Error(); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, ErrNotFound) || !errors.Is(err, ErrNotSigned) {
		t.Error("errors.Is finds not both")
	}
}
