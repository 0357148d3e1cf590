package node

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/pprof"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/component/pki"
	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/kernel"
)

// rotateTimeout is less than a request to the socket may take. A dozen certificates
// take less than a second.
const rotateTimeout = 9 * time.Second

// serveStatus answers GET /status with a serverstatus.Status and GET /timeline
// with the boot so far, as JSON, GET /debug/pprof/… as net/http/pprof does, and
// whatever each of more adds, on a unix socket that only root can open. close ends it.
func serveStatus(ctx context.Context, k *kernel.Kernel, status func() serverstatus.Status, more ...func(*http.ServeMux)) (close func(), err error) {
	listener, err := localapi.Listen(ctx, paths.StatusSocket)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, status()) })
	mux.HandleFunc("GET /timeline", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, k.Timeline()) })
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", func(w http.ResponseWriter, r *http.Request) {
		// The server's deadline for a request would end a long profile early.
		if err := http.NewResponseController(w).SetReadDeadline(time.Time{}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		pprof.Profile(w, r)
	})
	for _, add := range more {
		add(mux)
	}
	server := localapi.NewServer(mux)
	done := make(chan struct{})
	go func() {
		defer func() { done <- struct{}{} }()
		_ = server.Serve(listener) // ends with Close
	}()
	return func() {
		server.Close()
		<-done
	}, nil
}

// serveLinks answers POST /ui/link with a new link to the page, which is good once.
func serveLinks(cfg *config.Config, page *statuspage.Page) func(*http.ServeMux) {
	serving := pki.FilesOf(paths.Data(cfg.DataDir)).Serving.Cert
	return func(mux *http.ServeMux) {
		mux.HandleFunc("POST /ui/link", func(w http.ResponseWriter, _ *http.Request) {
			link := serverstatus.Link{
				Host: cfg.AdvertiseAddress, Port: cfg.HTTPSListenPort,
				Path: page.Link(), ValidForS: int64(statuspage.CodeLifetime.Seconds()),
			}
			if leaf, err := certs.ReadLeaf(serving); err == nil {
				link.Fingerprint = fmt.Sprintf("%X", sha256.Sum256(leaf.Raw))
			} // else the server is so young that its port is not open either
			writeJSON(w, link)
		})
	}
}

// rotateFunc has certificates of this machine issued anew and returns when they are.
type rotateFunc = func(context.Context) error

// serveRotation answers POST /certificates/rotate when all certificates of this
// machine were issued anew, those of the control plane first.
func serveRotation(rotate ...rotateFunc) func(*http.ServeMux) {
	return func(mux *http.ServeMux) {
		mux.HandleFunc("POST /certificates/rotate", func(w http.ResponseWriter, r *http.Request) {
			ctx, cancel := context.WithTimeout(r.Context(), rotateTimeout)
			defer cancel()
			for _, one := range rotate {
				if err := one(ctx); err != nil {
					writeError(w, err)
					return
				}
			}
			writeJSON(w, struct{}{})
		})
	}
}

// writeError answers with what localapi.Ask returns as the server's own words.
func writeError(w http.ResponseWriter, err error) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusConflict)
	_ = json.NewEncoder(w).Encode(map[string]string{"error": err.Error()})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that went away needs no answer
}
