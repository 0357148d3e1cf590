package nodeevents

import (
	"fmt"
	"time"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

// maxDrift is how far the wall clock may leave the monotonic one between two
// looks. Leases live for some ten seconds, tokens and certificates begin at once.
const maxDrift = 5 * time.Second

// notice is an event to be.
type notice struct {
	warning         bool
	reason, message string
}

// watcher turns what a server looks like into what is new about it. Each thing is
// told once, and again only after it was well.
type watcher struct {
	lastRun   run
	told      bool // that the server started
	unhealthy map[string]bool
	ending    map[string]serverstatus.CertificateState // by file
	looked    time.Time                                // with its monotonic reading
	drift     func(before, now time.Time) time.Duration
}

func newWatcher(lastRun run, now time.Time) *watcher {
	return &watcher{lastRun: lastRun, unhealthy: map[string]bool{}, ending: map[string]serverstatus.CertificateState{}, looked: now, drift: drift}
}

func (w *watcher) look(s serverstatus.Status, now time.Time) []notice {
	var out []notice
	add := func(warning bool, reason, format string, args ...any) {
		out = append(out, notice{warning, reason, fmt.Sprintf(format, args...)})
	}
	switch last := w.lastRun; {
	case last.why != "":
		add(true, "StoppedUnexpectedly", "the server ended %s: %s", last.ended, last.why)
	case last.ended != "":
		add(true, "StoppedUnexpectedly", "the run of the server that began %s did not end in order: it was killed, it crashed or the machine did", last.ended)
	}
	w.lastRun = run{}
	if !w.told && s.State == serverstatus.StateReady {
		w.told = true
		add(false, "ServerStarted", "cleat %s with Kubernetes %s: all %d units are ready", s.Version, s.Kubernetes, len(s.Units))
	}
	for _, u := range s.Units {
		switch {
		case u.State == kernel.StateUnhealthy && !w.unhealthy[u.Unit]:
			w.unhealthy[u.Unit] = true
			add(true, "UnitUnhealthy", "unit %s: %s", u.Unit, u.Error)
		case u.State == kernel.StateReady && w.unhealthy[u.Unit]:
			delete(w.unhealthy, u.Unit)
			add(false, "UnitReady", "unit %s is well again", u.Unit)
		}
	}
	for _, c := range s.Certificates {
		if c.State == w.ending[c.File] || c.State == serverstatus.CertificateOK && w.ending[c.File] == "" {
			continue
		}
		w.ending[c.File] = c.State
		switch c.State {
		case serverstatus.CertificateWarning, serverstatus.CertificateCritical:
			add(true, "CertificateEndsSoon", "%s (%s) ends %s, in %d days", c.File, c.Subject, c.NotAfter.UTC().Format(time.DateOnly), c.DaysLeft)
		case serverstatus.CertificateExpired:
			add(true, "CertificateExpired", "%s (%s) ended %s", c.File, c.Subject, c.NotAfter.UTC().Format(time.DateOnly))
		}
	}
	if set := w.drift(w.looked, now); set.Abs() > maxDrift {
		add(true, "ClockJumped", "the clock moved by %s more than the time that passed: it was set, or the machine slept; certificates, tokens and leases go by it", set.Round(time.Second))
	}
	w.looked = now
	return out
}

// drift is by how much the clock was set between two readings of it. Sub goes by
// the monotonic clock, which Round(0) takes off.
func drift(before, now time.Time) time.Duration {
	return now.Round(0).Sub(before.Round(0)) - now.Sub(before)
}
