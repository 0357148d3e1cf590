package supervisor

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	// serversFor is how long a list of servers is good: every node asks for it all
	// the time.
	serversFor     = time.Second
	serversTimeout = 2 * time.Second

	// unitAPIServer is the unit without which this server is of no use to a node.
	unitAPIServer = "apiserver"
)

// serverList is the list of servers as it was last read.
type serverList struct {
	reading chan struct{} // holds one while somebody reads it

	mu   sync.Mutex
	text []byte
	at   time.Time
}

func (l *serverList) last() (text []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text, l.at
}

func (l *serverList) set(text []byte, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text, l.at = text, at
}

// serveServers tells a node which servers there are.
func (a *api) serveServers(w http.ResponseWriter, r *http.Request) {
	text, err := a.servers(r.Context())
	if err != nil {
		if r.Context().Err() == nil {
			a.Log.Debug("the list of servers was not read", "error", err)
		}
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server does not tell which servers there are")
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text)
}

// servers is the list as JSON. One request at a time reads it; meanwhile the others
// get the last one.
func (a *api) servers(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, serversTimeout)
	defer cancel()
	last, at := a.list.last()
	now := a.Now()
	if age := now.Sub(at); last != nil && age >= 0 && age < serversFor {
		return last, nil
	}
	select {
	case a.list.reading <- struct{}{}:
	default:
		if last != nil {
			return last, nil
		}
		select {
		case a.list.reading <- struct{}{}:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer func() { <-a.list.reading }()
	servers, err := a.Servers(ctx)
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(joinapi.Servers{Servers: servers})
	if err != nil {
		return nil, err
	}
	a.list.set(text, now)
	return text, nil
}

// serveReady tells load balancers whether this server can be used. Anybody may
// ask, as for /readyz, which says more and costs more.
func (a *api) serveReady(w http.ResponseWriter, _ *http.Request) {
	if a.api.Load() == nil {
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server is starting")
		return
	}
	for _, u := range a.Units() {
		if u.Unit == unitAPIServer && u.State != kernel.StateReady {
			joinapi.WriteStatus(w, http.StatusServiceUnavailable, 1, "the API server is "+string(u.State))
			return
		}
	}
	text(w, "ok")
}
