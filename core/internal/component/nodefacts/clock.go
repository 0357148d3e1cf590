package nodefacts

import (
	"fmt"
	"net/http"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// maxSkew is how far the clocks of node and server may be apart. Leases live for
// some ten seconds, tokens and certificates begin at once; a Date header counts
// whole seconds.
const maxSkew = 5 * time.Second

// clock compares this machine's clock with the server's.
type clock struct {
	now func() time.Time

	mu   sync.Mutex
	skew time.Duration // server's clock minus ours, as last seen
	told bool          // that they differ
}

type notice struct{ kind, reason, message string }

// saw takes note of the time in an answer to a request that was sent at a time.
func (c *clock) saw(sent time.Time, answer http.Header) {
	date, err := http.ParseTime(answer.Get("Date"))
	if err != nil {
		return
	}
	// The header was written somewhere between the two, and cut to whole seconds.
	now := c.now()
	skew := date.Sub(now)
	if date.Before(sent) {
		skew = min(date.Add(time.Second).Sub(sent), 0)
	} else if !date.After(now) {
		skew = 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.skew = skew
}

// notice is what is new of the clock.
func (c *clock) notice() (notice, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	wrong := c.skew.Abs() > maxSkew
	if wrong == c.told {
		return notice{}, false
	}
	c.told = wrong
	if !wrong {
		return notice{corev1.EventTypeNormal, "ClockRight", "the clock of this machine and that of the server agree again"}, true
	}
	side := "behind"
	if c.skew < 0 {
		side = "ahead of"
	}
	return notice{corev1.EventTypeWarning, "ClockSkew", fmt.Sprintf("the clock of this machine is %s %s the server's: "+
		"certificates, tokens and leases go by it; set it, for example with an NTP client", c.skew.Abs().Round(time.Second), side)}, true
}

// dated shows the answers that pass through it to a clock.
type dated struct {
	next  http.RoundTripper
	clock *clock
}

func (d *dated) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := d.clock.now()
	answer, err := d.next.RoundTrip(r)
	if err == nil {
		d.clock.saw(sent, answer.Header)
	}
	return answer, err
}
