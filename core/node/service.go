package node

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/internal/sdnotify"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	tellEvery = time.Second      // the pause between two looks at the units
	moreTime  = 90 * time.Second // what progress during a start or stop asks for
)

// tellService tells the service manager, if there is one, how the units are until
// told to stop: what a boot waits for, that all are ready, which is unhealthy, what
// a stop waits for. stop says how it ended and waits for the teller.
func tellService(k *kernel.Kernel, manager *sdnotify.Manager, logger *slog.Logger) (stop func(ended error)) {
	if manager == nil {
		return func(error) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	t := teller{manager: manager, log: logger}
	go func() {
		defer close(done)
		ticker := time.NewTicker(tellPause(manager.Watchdog))
		defer ticker.Stop()
		for {
			t.tell(k.Status())
			select {
			case <-ticker.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return func(ended error) {
		cancel()
		<-done
		t.end(ended)
	}
}

// tellPause makes at least two messages in each interval of the watchdog.
func tellPause(watchdog time.Duration) time.Duration {
	if watchdog > 0 {
		return max(min(tellEvery, watchdog/2), time.Millisecond)
	}
	return tellEvery
}

// teller remembers what the manager knows.
type teller struct {
	manager         *sdnotify.Manager
	log             *slog.Logger
	status          string
	ready, stopping bool
	broken          bool // a message was lost, and that was logged
}

func (t *teller) tell(units []kernel.Status) {
	s := summarize(units)
	if s.stopping && !t.stopping {
		t.stopping = true
		t.send(t.manager.Stopping())
	}
	if s.ready && !t.ready {
		t.ready = true
		t.send(t.manager.Ready())
	}
	if s.text != t.status {
		t.status = s.text
		t.send(t.manager.Status(s.text))
		// Only progress buys time, so that a start that hangs still times out.
		if !t.ready || t.stopping {
			t.send(t.manager.Extend(moreTime))
		}
	}
	if t.manager.Watchdog > 0 && s.ready && s.healthy {
		t.send(t.manager.Alive())
	}
}

func (t *teller) end(err error) {
	if !t.stopping {
		t.send(t.manager.Stopping())
	}
	text := "stopped in order"
	if err != nil {
		text = err.Error()
	}
	t.send(t.manager.Status(text))
	if err := t.manager.Close(); err != nil {
		t.log.Debug("closing the service manager's socket", "err", err)
	}
}

func (t *teller) send(err error) {
	if err != nil && !t.broken {
		t.broken = true
		t.log.Warn("the service manager was not told how the server is", "err", err)
	}
}

// summary is what all units come to.
type summary struct {
	text                     string
	ready, healthy, stopping bool // ready: every unit was; healthy: each is at this moment
}

func summarize(units []kernel.Status) summary {
	s := summary{ready: true, healthy: true}
	var readied int
	var busy, waiting, unhealthy, failed []string
	for _, u := range units {
		if u.ReadyAfterMS != nil {
			readied++
		}
		s.healthy = s.healthy && u.State == kernel.StateReady
		switch u.State {
		case kernel.StateFailed:
			s.stopping = true
			failed = append(failed, u.Unit+": "+u.Error)
		case kernel.StateStopping:
			s.stopping = true
			busy = append(busy, u.Unit)
		case kernel.StateStopped:
			s.stopping = true
		case kernel.StateUnhealthy:
			unhealthy = append(unhealthy, u.Unit+": "+u.Error)
		case kernel.StateStarting:
			busy = append(busy, u.Unit)
		case kernel.StateWaiting:
			if u.Progress != "" { // it is being prepared
				busy = append(busy, u.Unit)
			} else {
				waiting = append(waiting, u.Unit)
			}
		}
	}
	s.ready = readied == len(units) && !s.stopping
	if len(busy) == 0 {
		busy = waiting
	}
	switch {
	case len(failed) > 0:
		s.text = strings.Join(failed, ", ")
	case s.stopping:
		s.text = "stopping: waiting for " + strings.Join(busy, ", ")
	case !s.ready:
		s.text = fmt.Sprintf("starting: waiting for %s; %d of %d units are ready", strings.Join(busy, ", "), readied, len(units))
	case len(unhealthy) > 0:
		s.text = "unhealthy: " + strings.Join(unhealthy, ", ")
	default:
		s.text = fmt.Sprintf("ready: %d units", len(units))
	}
	return s
}
