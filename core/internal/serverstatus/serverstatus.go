// Package serverstatus is what a server knows of itself: the answer to GET
// /status on its local socket, which `cleat status` prints, and the source of
// its own metrics. It holds no secrets.
package serverstatus

import (
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
)

// State is how the server is as a whole.
type State string

// The states of a server.
const (
	StateStarting State = "starting" // not every unit has been ready yet
	StateReady    State = "ready"
	StateDegraded State = "degraded" // a unit that was ready is not any more
	StateStopping State = "stopping" // or failed, which stops the others
)

// Status is a server at one moment. Times have the server's clock.
type Status struct {
	Version    string    `json:"version"`    // of cleat
	Kubernetes string    `json:"kubernetes"` // with the v
	Node       string    `json:"node"`       // its name
	StartedAt  time.Time `json:"started_at"`
	ObservedAt time.Time `json:"observed_at"`
	State      State     `json:"state"`
	// Datastore is nil until its plugin has decided.
	Datastore *Datastore `json:"datastore,omitempty"`

	Units        []Unit        `json:"units"`        // in boot order
	Plugins      []Plugin      `json:"plugins"`      // in the order of the lock, shadows and disabled ones last
	Addons       []Addon       `json:"addons"`       // by name
	Certificates []Certificate `json:"certificates"` // by file
}

// Unit is a unit with its place on the boot timeline: a bar that begins at
// StartedAfterMS and is ReadyAfterMS long, before which it waited.
type Unit struct {
	kernel.Status
	// StartedAfterMS is how many milliseconds after the server's StartedAt the
	// unit was started; absent before that.
	StartedAfterMS *int64 `json:"started_after_ms,omitempty"`
}

// Datastore is where the cluster's state is.
type Datastore struct {
	Driver      string `json:"driver"`      // kine or etcd
	Description string `json:"description"` // in a few words, without secrets
	Shared      bool   `json:"shared"`      // other servers may use it too
}

// PluginState tells what a plugin has to say.
type PluginState string

// The states of a plugin.
const (
	PluginActive   PluginState = "active"   // it decides
	PluginShadow   PluginState = "shadow"   // it is asked, and decides nothing
	PluginDisabled PluginState = "disabled" // in the lock, and not opened
	PluginFaulted  PluginState = "faulted"  // its circuit breaker keeps calls out
)

// Plugin is an entry of the lock and, unless it is disabled, what it did since it
// was opened. Every call is allowed, denied or a fault.
type Plugin struct {
	Name    string      `json:"name"`
	Version string      `json:"version"`
	Points  []string    `json:"points"`
	Digest  string      `json:"digest"` // the first 12 digits of the SHA-256
	State   PluginState `json:"state"`

	Calls     uint64 `json:"calls"`
	Allowed   uint64 `json:"allowed"` // or answered, where it is no verdict
	Denied    uint64 `json:"denied"`
	Faults    uint64 `json:"faults"`
	Mutations uint64 `json:"mutations"` // of the allowed ones, those that changed an object
	// P50US and P99US are microseconds in the plugin, estimated to a factor of
	// two; absent without calls.
	P50US     float64   `json:"p50_us,omitempty"`
	P99US     float64   `json:"p99_us,omitempty"`
	LastFault *LastTime `json:"last_fault,omitempty"`
}

// LastTime is something that happened, and when it did last.
type LastTime struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// AddonState is how far a file of the manifests directory has come.
type AddonState string

// The states of an addon.
const (
	AddonPending AddonState = "pending" // not tried yet
	AddonApplied AddonState = "applied" // all of it is in the cluster
	AddonFailed  AddonState = "failed"  // and tried again by itself
)

// Addon is a file of this server's manifests directory.
type Addon struct {
	Name    string     `json:"name"`
	File    string     `json:"file"`
	State   AddonState `json:"state"`
	Objects int        `json:"objects"`         // that it has in the cluster
	Error   string     `json:"error,omitempty"` // of the last attempt
}

// Event is what happened to the server's Node, as an Event in the cluster tells it.
type Event struct {
	At      time.Time `json:"at"` // when it happened last
	Warning bool      `json:"warning,omitempty"`
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Count   int32     `json:"count,omitempty"` // how often; 0 is once
}

// Link is the answer to POST /ui/link on the local socket: a way to the server's
// page, good for one visitor. Path holds a secret.
type Link struct {
	Host        string `json:"host"` // an address of the server
	Port        int    `json:"port"`
	Path        string `json:"path"` // with the code, in the fragment
	ValidForS   int64  `json:"valid_for_s"`
	Fingerprint string `json:"fingerprint,omitempty"` // SHA-256 of the server's certificate, in hex
}

// Sources give the parts of a Status. All are set; each may be called at any
// time and returns at once.
type Sources struct {
	Units        func() []kernel.Status
	Datastore    func() (d Datastore, ok bool)
	Plugins      func() []Plugin
	Addons       func() []Addon
	Certificates func(now time.Time) []Certificate
	Now          func() time.Time
}

// Reporter puts a Status together. About holds what does not change: version,
// names, StartedAt.
type Reporter struct {
	About Status
	Sources
}

// maxError bounds the text of one error, in bytes: there may be thousands.
const maxError = 512

// Status returns the server as it is now.
func (r *Reporter) Status() Status {
	s := r.About
	s.ObservedAt = r.Now()
	units := r.Units()
	s.State = stateOf(units)
	s.Units = make([]Unit, len(units))
	for i, u := range units {
		s.Units[i] = Unit{Status: u}
		if !u.StartedAt.IsZero() {
			ms := max(u.StartedAt.Sub(s.StartedAt).Milliseconds(), 0)
			s.Units[i].StartedAfterMS = &ms
		}
	}
	if d, ok := r.Datastore(); ok {
		s.Datastore = &d
	}
	// Not null where there is none.
	s.Plugins = append([]Plugin{}, r.Plugins()...)
	for i := range s.Plugins {
		if last := s.Plugins[i].LastFault; last != nil {
			s.Plugins[i].LastFault = &LastTime{At: last.At, Text: clip(last.Text)}
		}
	}
	s.Addons = append([]Addon{}, r.Addons()...)
	for i := range s.Addons {
		s.Addons[i].Error = clip(s.Addons[i].Error)
	}
	s.Certificates = append([]Certificate{}, r.Certificates(s.ObservedAt)...)
	return s
}

// stateOf sums up the units.
func stateOf(units []kernel.Status) State {
	starting, unhealthy := len(units) == 0, false
	for _, u := range units {
		switch u.State {
		case kernel.StateStopping, kernel.StateStopped, kernel.StateFailed:
			return StateStopping
		case kernel.StateWaiting, kernel.StateStarting:
			starting = true
		case kernel.StateUnhealthy:
			unhealthy = true
		}
	}
	switch {
	case starting:
		return StateStarting
	case unhealthy:
		return StateDegraded
	}
	return StateReady
}

// clip shortens s to maxError without cutting a character in two.
func clip(s string) string {
	if len(s) <= maxError {
		return s
	}
	end := maxError - len("…")
	for s[end]&0xc0 == 0x80 {
		end--
	}
	return s[:end] + "…"
}
