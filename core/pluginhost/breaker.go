package pluginhost

import (
	"sync"
	"time"
)

// A breaker takes a plugin that keeps failing out of the request path. After
// breakerFaults faults in a row it opens; when its pause is over it lets one
// call through (half-open), whose outcome closes it or doubles the pause.
const (
	breakerFaults   = 5
	breakerMinPause = time.Second
	breakerMaxPause = time.Minute
)

// BreakerState is where a circuit breaker stands.
type BreakerState string

// The states of a circuit breaker.
const (
	BreakerClosed   BreakerState = "closed"    // calls go through
	BreakerOpen     BreakerState = "open"      // calls are refused until the pause is over
	BreakerHalfOpen BreakerState = "half-open" // one call is on trial
)

type breaker struct {
	now func() time.Time

	mu       sync.Mutex
	faults   int // in a row
	state    BreakerState
	pause    time.Duration
	until    time.Time
	lastName string // what the last fault was, for messages
}

func newBreaker(now func() time.Time) *breaker {
	return &breaker{now: now, state: BreakerClosed}
}

// allow reports whether a call may go through. Each true must be followed by
// exactly one done or abandon.
func (b *breaker) allow() (ok bool, retry time.Duration, last string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch b.state {
	case BreakerHalfOpen:
		return false, 0, b.lastName
	case BreakerOpen:
		if wait := b.until.Sub(b.now()); wait > 0 {
			return false, wait, b.lastName
		}
		b.state = BreakerHalfOpen
	}
	return true, 0, ""
}

// done records how a call ended; fault is "" for a plugin that did its work.
// changed reports that the breaker opened or closed.
func (b *breaker) done(fault string) (state BreakerState, changed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := b.state
	if fault == "" {
		b.faults, b.state, b.pause, b.lastName = 0, BreakerClosed, 0, ""
		return b.state, before != BreakerClosed
	}
	b.faults++
	b.lastName = fault
	if before != BreakerHalfOpen && b.faults < breakerFaults {
		return b.state, false
	}
	b.pause = min(max(2*b.pause, breakerMinPause), breakerMaxPause)
	b.until = b.now().Add(b.pause)
	b.state = BreakerOpen
	return b.state, before == BreakerClosed
}

// abandon takes back an allow whose call came to no verdict on the plugin,
// because the caller went away.
func (b *breaker) abandon() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.state == BreakerHalfOpen {
		b.state = BreakerOpen
	}
}

func (b *breaker) current() BreakerState {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.state
}
