package supervisor

import (
	"net/netip"
	"sync"
	"time"
)

// throttle slows the guessing of tokens. Each source may be wrong burst times
// at once and then once a period; what is kept of it is one time.
type throttle struct {
	burst int
	every time.Duration
	most  int // sources that are remembered
	now   func() time.Time

	mu sync.Mutex
	// paid is when the guesses a source had so far are paid off.
	paid map[netip.Addr]time.Time
}

func newThrottle(l limits, now func() time.Time) *throttle {
	return &throttle{burst: l.guesses, every: l.guessEvery, most: l.sources, now: now, paid: map[netip.Addr]time.Time{}}
}

// take allows a guess, or says that the source has had too many. It counts the
// guess before its outcome is known, so that many at once are no way around.
func (t *throttle) take(source netip.Addr) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	due, known := t.paid[source]
	if !known && len(t.paid) >= t.most {
		t.forget(now)
	}
	if due.Before(now) {
		due = now
	}
	due = due.Add(t.every)
	if due.Sub(now) > time.Duration(t.burst)*t.every {
		return false
	}
	t.paid[source] = due
	return true
}

// right gives a guess back: it was none.
func (t *throttle) right(source netip.Addr) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if due, ok := t.paid[source]; ok {
		t.paid[source] = due.Add(-t.every)
	}
}

// forget makes room: first by those who owe nothing, else by the one who owes
// least, since whoever comes from thousands of networks has their guesses anyway.
func (t *throttle) forget(now time.Time) {
	var least netip.Addr
	var when time.Time
	for source, due := range t.paid {
		if !due.After(now) {
			delete(t.paid, source)
		} else if when.IsZero() || due.Before(when) {
			least, when = source, due
		}
	}
	if len(t.paid) >= t.most {
		delete(t.paid, least)
	}
}
