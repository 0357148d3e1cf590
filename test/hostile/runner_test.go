package hostile

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// tableFile names the file to which the outcome of every attack is written, for
// the page on security.
const tableFile = "HOSTILE_TABLE"

// tries is how often a request is sent whose quickest answer counts: the machine
// may be busy.
const tries = 4

// row is one line of the table.
type row struct{ attack, outcome, took string }

// TestAttacks sends a request to every plugin of the table under both failure
// policies, with a well-behaved plugin behind it.
func TestAttacks(t *testing.T) {
	var mu sync.Mutex
	var rows []row
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			outcome, took := a.check(t)
			mu.Lock()
			defer mu.Unlock()
			rows = append(rows, row{a.name, outcome, took.Round(100 * time.Microsecond).String()})
		})
	}
	if file := os.Getenv(tableFile); file != "" {
		slices.SortFunc(rows, func(a, b row) int { return strings.Compare(a.attack, b.attack) })
		var b strings.Builder
		b.WriteString("| attack | outcome | time |\n|---|---|---|\n")
		for _, r := range rows {
			fmt.Fprintf(&b, "| %s | %s | %s |\n", r.attack, strings.ReplaceAll(r.outcome, "|", "\\|"), r.took)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// check does to one attack what becomes of it and compares; it returns the
// outcome in words and how long the host took for it.
func (a attack) check(t *testing.T) (string, time.Duration) {
	if a.want.refused != nil {
		return a.checkRefused(t)
	}
	took := a.checkAnswered(t, hostabi.FailurePolicyFail)
	ignored := a.checkAnswered(t, hostabi.FailurePolicyIgnore)
	if a.want.harmless {
		return "no effect, the request is decided", took
	}
	return "request refused, or allowed with a line in the log: " + a.want.fault[0], max(took, ignored)
}

// checkRefused opens a host with the plugin, whatever the lock says about it.
func (a attack) checkRefused(t *testing.T) (string, time.Duration) {
	log := &logBook{}
	good := lockOf(t, neighbour())[0]
	bad := lockForced(t, a.bytes(), a.guest.manifest, 20)
	before := measure(t)
	begin := time.Now()
	h, err := pluginhost.Open(context.Background(), options(t, log, good, bad))
	took := time.Since(begin)
	if err == nil {
		closeHost(t, h)
		t.Fatal("the host opens it")
	}
	if err := lacks(err.Error(), a.want.refused...); err != nil {
		t.Errorf("the error %v", err)
	}
	after := measure(t)
	if after.goroutines > before.goroutines || after.files > before.files || after.heap > before.heap+(1<<20) || after.mappings > before.mappings+8 {
		t.Errorf("something stays behind: %s, before: %s", after, before)
	}
	// The same server starts without it.
	h, err = pluginhost.Open(context.Background(), options(t, log, good))
	if err != nil {
		t.Fatalf("without it: %v", err)
	}
	defer closeHost(t, h)
	if result := validate(t, h, "configmaps"); !result.Allowed {
		t.Errorf("without it: %+v", result)
	}
	return "not loaded: " + a.want.refused[len(a.want.refused)-1], took
}

// lockForced is lockIn for a manifest that may be invalid: what the lock cannot
// say is left to a valid one, and the plugin has to differ from its entry.
func lockForced(t *testing.T, wasm []byte, m hostabi.Manifest, order int) guestFile {
	t.Helper()
	like := guesttest.Admission("attacker")
	if m.Validate() == nil {
		like = m
	}
	return lockIn(t, wasm, like, order)
}

// checkAnswered sends requests and returns how long the quickest took. The
// second request finds what the first has left.
func (a attack) checkAnswered(t *testing.T, policy hostabi.FailurePolicy) time.Duration {
	t.Helper()
	wasm := a.bytes()
	entry := lockIn(t, wasm, a.guest.manifest, 10)
	entry.entry.FailurePolicy = policy
	good := lockIn(t, neighbour(), mustInspect(t, neighbour()).Manifest, 20)
	log, clock := &logBook{}, newClock()
	o := options(t, log, entry, good)
	o.Now = clock.read
	before := measure(t)
	h, err := pluginhost.Open(context.Background(), o)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	limit := time.Duration(a.guest.manifest.Limits.DeadlineMS) * time.Millisecond
	best, verdicts := time.Hour, 0
	for try := range tries {
		clock.advance(breakerOver)
		begin := time.Now()
		mutated, err := h.Mutate(context.Background(), request("pods"))
		if err != nil {
			t.Fatalf("mutate: %v", err)
		}
		between := time.Since(begin)
		clock.advance(breakerOver)
		validated := validate(t, h, "pods")
		took := max(between, time.Since(begin)-between)
		best = min(best, took)
		verdicts += a.checkVerdict(t, policy, mutated, validated)
		if try > 0 && best < limit+stallMargin {
			break
		}
	}
	if verdicts == 0 {
		t.Error("no request met the guest")
	}
	if best > limit+stallMargin {
		t.Errorf("with a deadline of %s the request took %s", limit, best)
	}
	if a.want.fault != nil {
		if err := lacks(strings.ReplaceAll(log.String(), `\"`, `"`), append([]string{"plugin=attacker"}, a.want.fault...)...); err != nil {
			t.Errorf("the log %v", err)
		}
	}
	if result := validate(t, h, "configmaps"); !result.Allowed {
		t.Errorf("the neighbour: %+v", result)
	}
	for _, s := range h.Stats() {
		if limit := uint64(a.guest.manifest.Limits.MemoryPages) << 16; s.Name == "attacker" && s.MemoryPeak > limit {
			t.Errorf("it had %d bytes of memory, the limit is %d", s.MemoryPeak, limit)
		}
	}
	closeHost(t, h)
	after := measure(t)
	if after.goroutines > before.goroutines || after.files > before.files || after.heap > before.heap+(1<<20) || after.mappings > before.mappings+8 {
		t.Errorf("something stays behind: %s, before: %s", after, before)
	}
	return best
}

// checkVerdict compares what the request got with the failure policy; it returns
// how many of the two hooks met the fault, or decided if there is none.
func (a attack) checkVerdict(t *testing.T, policy hostabi.FailurePolicy, results ...extension.AdmissionResult) int {
	t.Helper()
	met := 0
	for _, r := range results {
		switch {
		case r.Allowed && a.want.harmless:
			met++
		case r.Allowed && policy == hostabi.FailurePolicyIgnore:
			met++
		case !r.Allowed && a.want.fault != nil && policy == hostabi.FailurePolicyFail:
			met++
			if r.Plugin != "attacker" || r.Code != 500 {
				t.Errorf("refused by %s with code %d", r.Plugin, r.Code)
			}
			if err := lacks(r.Message, append([]string{"did not decide: ", "an operator can repair it"}, a.want.fault...)...); err != nil {
				t.Errorf("the message %v", err)
			}
		case !r.Allowed:
			t.Errorf("under %s: %+v", policy, r)
		}
	}
	return met
}

func mustInspect(t testing.TB, wasm []byte) *pluginhost.Inspection {
	t.Helper()
	ins, err := pluginhost.Inspect(wasm)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return ins
}
