package kernel

import (
	"strings"
	"time"
)

// State is where a unit is in its life; the package comment draws it.
type State string

// The states of a unit.
const (
	StateWaiting   State = "waiting"   // for its needs
	StateStarting  State = "starting"  // Run was called
	StateReady     State = "ready"     // Run called ready
	StateUnhealthy State = "unhealthy" // was ready, but the last Check failed
	StateStopping  State = "stopping"  // its context is cancelled
	StateStopped   State = "stopped"   // Run returned as told, or was never called
	StateFailed    State = "failed"
)

// Status is what is known of a unit at one moment.
type Status struct {
	Unit  string   `json:"unit"`
	State State    `json:"state"`
	Needs []string `json:"needs,omitempty"`
	// Since is when it entered State.
	Since time.Time `json:"since,omitzero"`
	// StartedAt is when Run was called, ReadyAfterMS how many milliseconds
	// later it became ready; both are absent before that.
	StartedAt    time.Time `json:"started_at,omitzero"`
	ReadyAfterMS *int64    `json:"ready_after_ms,omitempty"`
	// WaitingFor are the units that hold this one up: needs that are not ready
	// yet or, while the kernel stops, dependents that have not returned.
	WaitingFor []string `json:"waiting_for,omitempty"`
	// Progress is what the component last said with Report, ProbeError the last
	// error it gave to Waiting or got in Poll; both end when it becomes ready.
	Progress   string `json:"progress,omitempty"`
	ProbeError string `json:"probe_error,omitempty"`
	// Error is why it is failed or unhealthy.
	Error string `json:"error,omitempty"`
}

// Event is one step of the boot or of the stop.
type Event struct {
	At    time.Time `json:"at"`
	Unit  string    `json:"unit"`
	State State     `json:"state"`
	// AfterMS is the milliseconds since Run was called.
	AfterMS int64  `json:"after_ms"`
	Error   string `json:"error,omitempty"`
}

// Status returns the state of every unit, in Add order.
func (k *Kernel) Status() []Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	out := make([]Status, len(k.units))
	for i, u := range k.units {
		out[i] = u.statusLocked()
	}
	return out
}

// Timeline returns the state changes so far, oldest first. Changes of health are
// left out, so it stays short however long it runs.
func (k *Kernel) Timeline() []Event {
	k.mu.Lock()
	defer k.mu.Unlock()
	return append([]Event(nil), k.events...)
}

func (u *Unit) statusLocked() Status {
	k := u.kernel
	s := Status{
		Unit:       u.name,
		State:      u.state,
		Since:      u.since,
		StartedAt:  u.startedAt,
		Progress:   u.progress,
		ProbeError: u.probeError,
	}
	for _, n := range u.needs {
		s.Needs = append(s.Needs, n.name)
	}
	if u.wasReady {
		ms := u.readyAfter.Milliseconds()
		s.ReadyAfterMS = &ms
	}
	if u.err != nil {
		s.Error = u.err.Error()
	}
	s.WaitingFor = u.waitingForLocked()
	if u.state == StateWaiting && k.preparing != nil {
		// Nothing starts before every Prepare is done.
		if k.preparing == u {
			s.Progress = strings.TrimSuffix("prepare: "+u.progress, ": ")
		} else if len(s.WaitingFor) == 0 {
			s.WaitingFor = []string{k.preparing.name}
		}
	}
	return s
}

func (u *Unit) waitingForLocked() []string {
	var names []string
	switch {
	case u.kernel.cause != nil && (u.state == StateStarting || u.state == StateReady || u.state == StateUnhealthy):
		for _, d := range u.dependents {
			if d.state != StateStopped && d.state != StateFailed {
				names = append(names, d.name)
			}
		}
	case u.kernel.cause == nil && u.state == StateWaiting:
		for _, n := range u.needs {
			if !n.wasReady {
				names = append(names, n.name)
			}
		}
	}
	return names
}
