package hostile

import (
	"context"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
)

// hostileCalls is how many attacks the long run makes, and what may be left of
// them. All of it is noise of the runtime, not a share of the calls.
const (
	hostileCalls = 10_000
	leftHeap     = 2 << 20
	leftResident = 48 << 20
	leftMappings = 16
	leftFiles    = 0
	leftThreads  = 2 // goroutines
)

// TestTenThousandInARow cycles through the table in one process: attacks that the
// host refuses to load, and hooks of attackers that are all loaded side by side.
// Those that burn a deadline get one of five milliseconds.
func TestTenThousandInARow(t *testing.T) {
	clock := newClock()
	log := &logBook{}
	var quick []func()
	entered := 0
	for _, a := range attacks() {
		if a.want.refused != nil {
			wasm := a.bytes()
			quick = append(quick, func() {
				ins, err := pluginhost.Inspect(wasm)
				if err == nil {
					_, err = pluginhost.Verify(pluginhost.LockedPlugin{Name: ins.Manifest.Name}, wasm)
				}
				if err == nil {
					t.Errorf("%s: accepted", a.name)
				}
			})
			continue
		}
		if a.slow && a.want.fault != nil && a.guest.manifest.Limits.DeadlineMS > uint32(deadline.Milliseconds()) {
			continue // a hundred megabytes of stack, or a million host calls, each
		}
		file := lockIn(t, a.bytes(), a.guest.manifest, 10)
		file.entry.Limits.DeadlineMS = 5
		file.entry.Limits.PoolMax = 1
		o := options(t, log, file)
		o.Now = clock.read
		h := open(t, o)
		entered++
		quick = append(quick, func() {
			// A deadline this short may meet any guest, so that only the way it is
			// answered counts: by a verdict or a fault, never by an error.
			if _, err := h.Validate(context.Background(), request("pods")); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
			if _, err := h.Mutate(context.Background(), request("pods")); err != nil {
				t.Errorf("%s: %v", a.name, err)
			}
		})
	}
	run := func(n int) {
		for i := range n {
			clock.advance(breakerOver)
			quick[i%len(quick)]()
		}
	}
	run(5 * len(quick)) // until every instance, buffer and pool is as large as it gets
	before := measure(t)
	begin := time.Now()
	run(hostileCalls)
	took := time.Since(begin)
	after := measure(t)
	t.Logf("%d hostile calls by %d attacks (%d of them loaded) in %s", hostileCalls, len(quick), entered, took.Round(time.Millisecond))
	t.Logf("before: %s", before)
	t.Logf("after:  %s", after)
	for what, grew := range map[string][2]int64{
		"goroutines":        {int64(after.goroutines - before.goroutines), leftThreads},
		"bytes of heap":     {after.heap - before.heap, leftHeap},
		"resident bytes":    {after.resident - before.resident, leftResident},
		"mappings":          {int64(after.mappings - before.mappings), leftMappings},
		"files":             {int64(after.files - before.files), leftFiles},
		"MiB of log a call": {int64(logBytes(log)) / hostileCalls >> 20, 1},
	} {
		if grew[0] > grew[1] {
			t.Errorf("%d %s are left, want at most %d", grew[0], what, grew[1])
		}
	}
}

func logBytes(l *logBook) int { _, n := l.size(); return n }

// TestOpenAndCloseInARow loads and unloads hosts of attackers, each with a call.
func TestOpenAndCloseInARow(t *testing.T) {
	const rounds = 300
	var loaded []attack
	for _, a := range attacks() {
		if a.want.refused == nil && !a.slow {
			loaded = append(loaded, a)
		}
	}
	round := func(a attack) {
		h, err := pluginhost.Open(context.Background(), options(t, &logBook{}, lockIn(t, a.bytes(), a.guest.manifest, 10)))
		if err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		validate(t, h, "pods")
		closeHost(t, h)
	}
	for _, a := range loaded {
		round(a)
	}
	before := measure(t)
	begin := time.Now()
	for i := range rounds {
		round(loaded[i%len(loaded)])
	}
	after := measure(t)
	t.Logf("%d hosts in %s; before: %s; after: %s", rounds, time.Since(begin).Round(time.Millisecond), before, after)
	if after.goroutines > before.goroutines+leftThreads || after.heap > before.heap+leftHeap || after.mappings > before.mappings+leftMappings || after.files > before.files {
		t.Error("something is left")
	}
}
