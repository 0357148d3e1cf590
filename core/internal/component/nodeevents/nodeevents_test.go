package nodeevents

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

func status(state kernel.State, certificate serverstatus.CertificateState) serverstatus.Status {
	all := serverstatus.StateReady
	switch state {
	case kernel.StateUnhealthy:
		all = serverstatus.StateDegraded
	case kernel.StateStarting:
		all = serverstatus.StateStarting
	}
	return serverstatus.Status{
		Version: "0.1.0", Kubernetes: "v1.36.3", State: all,
		Units: []serverstatus.Unit{{Status: kernel.Status{Unit: "datastore", State: state, Error: "no answer"}}},
		Certificates: []serverstatus.Certificate{{
			File: "/tls/a.crt", Subject: "CN=x", State: certificate, DaysLeft: 12, NotAfter: time.Date(2026, 2, 3, 0, 0, 0, 0, time.UTC),
		}},
	}
}

// TestEachOnce: what is told at each look, and that nothing is told twice.
func TestEachOnce(t *testing.T) {
	now := time.Now()
	w := newWatcher(run{ended: "2026-01-02T03:04:05Z"}, now)
	const (
		starting, ready, unhealthy = kernel.StateStarting, kernel.StateReady, kernel.StateUnhealthy
		ok, warning, critical      = serverstatus.CertificateOK, serverstatus.CertificateWarning, serverstatus.CertificateCritical
		expired                    = serverstatus.CertificateExpired
	)
	soon := notice{true, "CertificateEndsSoon", "/tls/a.crt (CN=x) ends 2026-02-03, in 12 days"}
	for i, step := range []struct {
		status serverstatus.Status
		want   []notice
	}{
		{status(starting, ok), []notice{{true, "StoppedUnexpectedly",
			"the run of the server that began 2026-01-02T03:04:05Z did not end in order: it was killed, it crashed or the machine did"}}},
		{status(starting, ok), nil},
		{status(ready, ok), []notice{{false, "ServerStarted", "cleat 0.1.0 with Kubernetes v1.36.3: all 1 units are ready"}}},
		{status(ready, ok), nil},
		{status(unhealthy, ok), []notice{{true, "UnitUnhealthy", "unit datastore: no answer"}}},
		{status(unhealthy, ok), nil},
		{status(ready, ok), []notice{{false, "UnitReady", "unit datastore is well again"}}},
		{status(ready, warning), []notice{soon}},
		{status(ready, warning), nil},
		{status(ready, critical), []notice{soon}},
		{status(ready, expired), []notice{{true, "CertificateExpired", "/tls/a.crt (CN=x) ended 2026-02-03"}}},
		{status(ready, ok), nil},
		{status(ready, warning), []notice{soon}},
	} {
		now = now.Add(interval)
		if diff := cmp.Diff(step.want, w.look(step.status, now), cmp.AllowUnexported(notice{})); diff != "" {
			t.Errorf("step %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestClockJump(t *testing.T) {
	now := time.Now()
	for _, tt := range []struct {
		set  time.Duration
		want string
	}{{0, ""}, {4 * time.Second, ""}, {time.Hour, "1h0m0s"}, {-48 * time.Hour, "-48h0m0s"}} {
		w := newWatcher(run{}, now)
		w.drift = func(time.Time, time.Time) time.Duration { return tt.set }
		got := w.look(status(kernel.StateStarting, serverstatus.CertificateOK), now)
		if tt.want == "" && len(got) != 0 || tt.want != "" && (len(got) != 1 || got[0].reason != "ClockJumped" || !strings.Contains(got[0].message, tt.want)) {
			t.Errorf("set by %s: %+v", tt.set, got)
		}
	}
	if d := drift(now, now.Add(time.Hour)); d != 0 {
		t.Errorf("time that passed is a drift of %s", d)
	}
}

// TestMarker: a run that was cancelled leaves no marker, one that was not leaves
// it for the next to find.
func TestMarker(t *testing.T) {
	c := New(Options{
		Node: "n1", Marker: filepath.Join(t.TempDir(), "server", "running"), Log: slog.New(slog.DiscardHandler),
		Status: func() serverstatus.Status { return status(kernel.StateReady, serverstatus.CertificateOK) },
	})
	run := func(end error) (events string) {
		t.Helper()
		ctx, cancel := context.WithCancelCause(t.Context())
		recorder := record.NewFakeRecorder(8)
		if err := c.watch(ctx, recorder, func() {
			if _, err := os.Stat(c.Marker); err != nil {
				t.Errorf("while it runs: %v", err)
			}
			cancel(end)
		}); err != nil {
			t.Fatal(err)
		}
		for {
			select {
			case e := <-recorder.Events:
				events += e + "\n"
			default:
				return events
			}
		}
	}
	stop := fmt.Errorf("got a signal: %w", context.Canceled)
	if got := run(stop); strings.Contains(got, "StoppedUnexpectedly") || !strings.Contains(got, "Normal ServerStarted") {
		t.Errorf("first run: %s", got)
	}
	if got := run(stop); strings.Contains(got, "StoppedUnexpectedly") {
		t.Errorf("after a run that ended in order: %s", got)
	}
	if err := os.WriteFile(c.Marker, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := run(errors.New("unit datastore: disk full")); !strings.Contains(got, "Warning StoppedUnexpectedly") || !strings.Contains(got, "it was killed") {
		t.Errorf("after a run that was cut short: %s", got)
	}
	if got := run(stop); !strings.Contains(got, "Warning StoppedUnexpectedly") || !strings.Contains(got, "Z: unit datastore: disk full") {
		t.Errorf("after a run that failed: %s", got)
	}
	if got := run(stop); strings.Contains(got, "StoppedUnexpectedly") {
		t.Errorf("told a second time: %s", got)
	}
}
