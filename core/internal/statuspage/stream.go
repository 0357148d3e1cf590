package statuspage

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

// message is one event of the stream.
type message struct {
	Status serverstatus.Status  `json:"status"`
	Events []serverstatus.Event `json:"events"`
}

// watcher is an open stream; wake has a value when there is a new message.
type watcher struct{ wake chan struct{} }

// ServeStream sends a message at once and whenever something has changed, until
// the client goes, the page is closed or StreamFor is over.
func (p *Page) ServeStream(w http.ResponseWriter, r *http.Request) {
	harden(w.Header())
	if fromElsewhere(r) {
		joinapi.WriteStatus(w, http.StatusForbidden, 0, "another site's page asked")
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	if r.Method == http.MethodHead {
		return
	}
	me, err := p.join()
	if err != nil {
		joinapi.WriteStatus(w, http.StatusServiceUnavailable, 10, err.Error())
		return
	}
	defer p.leave(me)
	control := http.NewResponseController(w)
	// The client has nothing more to say; its end shows in the context.
	err = control.SetReadDeadline(time.Time{})
	send := func(parts ...[]byte) {
		err = errors.Join(err, control.SetWriteDeadline(time.Now().Add(writeTimeout)))
		for _, part := range parts {
			if err == nil {
				_, err = w.Write(part)
			}
		}
		err = errors.Join(err, control.Flush())
	}
	end, quiet := time.NewTimer(p.StreamFor), time.NewTicker(beat)
	defer end.Stop()
	defer quiet.Stop()
	for send([]byte(": hello\n\n")); err == nil; {
		select {
		case <-me.wake:
			send([]byte("data: "), p.current(), []byte("\n\n"))
		case <-quiet.C:
			send([]byte(": nothing new\n\n"))
		case <-r.Context().Done():
			return
		case <-p.closed:
			return
		case <-end.C:
			return
		}
	}
}

var (
	errMany = errors.New("too many browsers watch this server already: close one")
	errGone = errors.New("the server stops")
)

// join makes a watcher; the first has the server looked at.
func (p *Page) join() (*watcher, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.closed:
		return nil, errGone
	default:
	}
	if len(p.watchers) == maxStreams {
		return nil, errMany
	}
	me := &watcher{wake: make(chan struct{}, 1)}
	if len(p.watchers) == 0 {
		ctx, cancel := context.WithCancel(context.Background())
		p.rest = cancel
		go p.look(ctx)
	}
	p.watchers[me] = struct{}{}
	if p.message != nil {
		me.wake <- struct{}{}
	}
	return me, nil
}

func (p *Page) leave(me *watcher) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.watchers, me)
	if len(p.watchers) == 0 {
		p.rest()
		p.message = nil
	}
}

func (p *Page) current() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.message
}

// look looks at the server until ctx is done, for all watchers together.
func (p *Page) look(ctx context.Context) {
	var mu sync.Mutex
	events := []serverstatus.Event{}
	go every(ctx, lookEvents, func() {
		if list, err := p.Events(ctx); err == nil {
			mu.Lock()
			defer mu.Unlock()
			events = append([]serverstatus.Event{}, list...)
		}
	})
	var before []byte
	every(ctx, look, func() {
		m := message{Status: p.Status()}
		mu.Lock()
		m.Events = events
		mu.Unlock()
		observed := m.Status.ObservedAt
		m.Status.ObservedAt = time.Time{} // it always differs
		now, err := json.Marshal(m)
		if err != nil || bytes.Equal(now, before) {
			return
		}
		before = now
		m.Status.ObservedAt = observed
		if text, err := json.Marshal(m); err == nil {
			p.publish(ctx, text)
		}
	})
}

// every calls f at once and then again after each pause, until ctx is done.
func every(ctx context.Context, pause time.Duration, f func()) {
	tick := time.NewTicker(pause)
	defer tick.Stop()
	for ctx.Err() == nil {
		f()
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
}

func (p *Page) publish(ctx context.Context, text []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if ctx.Err() != nil {
		return // others look by now, or nobody
	}
	p.message = text
	for w := range p.watchers {
		select {
		case w.wake <- struct{}{}:
		default: // it has not taken the last one yet, and will take this
		}
	}
}
