// Package registrytest runs the CNCF's distribution registry on a loopback
// address, for tests: with its contents in memory, and with passwords, tokens,
// TLS or client certificates as a test needs them.
package registrytest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/distribution/distribution/v3/configuration"
	// The registry finds these by name, in tables that their init fills.
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	"github.com/distribution/distribution/v3/registry/handlers"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/sirupsen/logrus"
	"golang.org/x/crypto/bcrypt"
)

// Options says what a registry asks of its clients.
type Options struct {
	User, Password string     // "" = everybody may do everything
	Token          bool       // ask for a bearer token, which User and Password buy
	Authority      *Authority // serve TLS with a certificate of it; nil = http
	ClientCert     bool       // want a client certificate of the Authority
	// Wrap stands before the registry.
	Wrap func(http.Handler) http.Handler
}

// Registry is a running registry.
type Registry struct {
	Host   string // 127.0.0.1:port
	URL    string
	server *httptest.Server
}

// Start runs a registry until the test ends.
func Start(t testing.TB, o Options) *Registry {
	t.Helper()
	logrus.SetOutput(io.Discard)
	config := &configuration.Configuration{Storage: configuration.Storage{"inmemory": {}}}
	config.HTTP.Secret = "for tests"
	config.Log.AccessLog.Disabled = true
	config.Catalog.MaxEntries = 100
	if o.User != "" && !o.Token {
		config.Auth = configuration.Auth{"htpasswd": {"realm": "test", "path": htpasswd(t, o.User, o.Password)}}
	}
	var handler http.Handler = handlers.NewApp(t.Context(), config)
	if o.Token {
		handler = tokens(o, handler)
	}
	if o.Wrap != nil {
		handler = o.Wrap(handler)
	}
	return Serve(t, o, handler)
}

// Serve runs any handler in the place of a registry, for one that misbehaves.
func Serve(t testing.TB, o Options, handler http.Handler) *Registry {
	t.Helper()
	server := httptest.NewUnstartedServer(handler)
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if o.Authority == nil {
		server.Start()
	} else {
		server.TLS = &tls.Config{Certificates: []tls.Certificate{o.Authority.issue(t, false)}}
		if o.ClientCert {
			server.TLS.ClientAuth, server.TLS.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
			server.TLS.ClientCAs.AddCert(o.Authority.cert)
		}
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	_, host, _ := strings.Cut(server.URL, "://")
	return &Registry{Host: host, URL: server.URL, server: server}
}

// Stop ends the registry before the test does.
func (r *Registry) Stop() { r.server.Close() }

// Mirrors is a registries.yaml that says of each registry where it is, so that
// one without TLS can be reached.
func Mirrors(registries ...*Registry) string {
	text := "mirrors:\n"
	for _, r := range registries {
		text += fmt.Sprintf("  %q: {endpoint: [%q]}\n", r.Host, r.URL)
	}
	return text
}

func htpasswd(t testing.TB, user, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "htpasswd")
	if err := os.WriteFile(path, fmt.Appendf(nil, "%s:%s\n", user, hash), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// tokens asks for a bearer token and sells it at /token for a password. A token
// is good for the one scope it was asked for.
func tokens(o Options, next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/token" {
			user, password, _ := r.BasicAuth()
			if user != o.User || password != o.Password {
				http.Error(w, `{"errors":[{"code":"UNAUTHORIZED","message":"wrong password"}]}`, http.StatusUnauthorized)
				return
			}
			fmt.Fprintf(w, `{"token":%q}`, "good for "+r.URL.Query().Get("scope"))
			return
		}
		scope := "repository:" + repository(r.URL.Path) + ":pull"
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			scope += ",push"
		}
		got := r.Header.Get("Authorization")
		if r.URL.Path == "/v2/" && got != "" || strings.HasPrefix(got, "Bearer good for "+scope) {
			next.ServeHTTP(w, r)
			return
		}
		w.Header().Set("WWW-Authenticate", fmt.Sprintf(`Bearer realm="http://%s/token",service="test",scope=%q`, r.Host, scope))
		w.WriteHeader(http.StatusUnauthorized)
	})
}

// repository is the name in the path of a request.
func repository(path string) string {
	name := strings.TrimPrefix(path, "/v2/")
	for _, end := range []string{"/manifests/", "/blobs/", "/referrers/", "/tags/"} {
		if before, _, ok := strings.Cut(name, end); ok {
			return before
		}
	}
	return name
}
