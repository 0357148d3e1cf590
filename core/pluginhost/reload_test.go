package pluginhost

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// denier denies every pod with that status; version tells its copies apart.
func denier(version string, code int32) guesttest.Guest {
	g := hook("denier", guesttest.Code(guesttest.Get(0), guesttest.I32(guesttest.DataAddress), guesttest.I32(4), guesttest.I32(code),
		guesttest.Call(0), guesttest.Drop(), guesttest.I32(1)), guesttest.HostFunction(hostabi.ModuleRequest, "deny"))
	g.Manifest.Version = version
	g.Data = []byte("deny")
	return g
}

// with adds the files of another bundle to those the host can read, and
// returns the text of its lock.
func (b *bundle) with(t *testing.T, other *bundle, rename string) []byte {
	t.Helper()
	for i := range other.lock.Plugins {
		p := &other.lock.Plugins[i]
		file := strings.TrimPrefix(p.Source, "embedded:")
		b.files[rename+file] = other.files[file]
		p.Source = "embedded:" + rename + file
	}
	text, err := other.lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func verdictCode(t *testing.T, h *Host) int32 {
	t.Helper()
	result, err := h.Validate(t.Context(), pod())
	if err != nil {
		t.Fatal(err)
	}
	return result.Code
}

type notices struct {
	mu  sync.Mutex
	all []Notice
}

func (n *notices) observe(o *Options) {
	o.Observe = func(notice Notice) {
		n.mu.Lock()
		defer n.mu.Unlock()
		n.all = append(n.all, notice)
	}
}

func (n *notices) has(kind NoticeKind) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, notice := range n.all {
		if notice.Kind == kind {
			return true
		}
	}
	return false
}

// TestReloadUnderLoad swaps generations while requests run: each gets an answer
// of one generation or the next, and none an error.
func TestReloadUnderLoad(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm())
	h := b.open(t, func(o *Options) { o.Trial = time.Millisecond })
	first, err := b.lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	second := b.with(t, lockOf(t, denier("2.0.0", 402).Wasm()), "new-")
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				result, err := h.Validate(t.Context(), pod())
				if err != nil || result.Code != 401 && result.Code != 402 {
					t.Errorf("got %+v, %v", result, err)
					return
				}
			}
		})
	}
	for i := range 20 {
		lock, want := second, int32(402)
		if i%2 == 1 {
			lock, want = first, 401
		}
		if _, err := h.Reload(t.Context(), lock); err != nil {
			t.Fatal(err)
		}
		if got := verdictCode(t, h); got != want {
			t.Fatalf("after reload %d: code %d, want %d", i, got, want)
		}
	}
	stop()
	wg.Wait()
	eventually(t, "old generations to be closed", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.live) == 1
	})
}

func TestReloadKeepsWhatIsEqual(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm(), planner("p", `{"driver":"kine"}`, 0).Wasm())
	h := b.open(t)
	kept := h.current.Load().plugins[0]
	b.lock.Plugins = b.lock.Plugins[:1]
	b.lock.Plugins[0].Order = 77
	lock, err := b.lock.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	changed, err := h.Reload(t.Context(), lock)
	if err != nil {
		t.Fatal(err)
	}
	if len(changed.Opened) != 0 || len(changed.Closed) != 1 || changed.Closed[0] != "p 1.0.0" || h.current.Load().plugins[0] != kept {
		t.Errorf("changed %+v", changed)
	}
	b.lock.Plugins[0].Disabled = true
	if lock, err = b.lock.Marshal(); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Reload(t.Context(), lock); err != nil {
		t.Fatal(err)
	}
	if h.Handles("CREATE", "", "v1", "pods", "") {
		t.Error("a disabled plugin is still asked")
	}
	if d := h.Disabled(); len(d) != 1 || d[0].Name != "denier" || len(h.Stats()) != 0 {
		t.Errorf("disabled: %+v, open: %+v", d, h.Stats())
	}
}

// TestReloadRefused: whatever is wrong with the new lock, the old plugins go on.
func TestReloadRefused(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm())
	refuse := errors.New("check admission/x failed")
	h := b.open(t, func(o *Options) {
		o.Certify = func(_ context.Context, p LockedPlugin, _ []byte) error {
			if p.Version == "3.0.0" {
				return refuse
			}
			return nil
		}
	})
	trapping := denier("2.0.0", 402)
	trapping.Hooks[hostabi.ExportInit] = guesttest.Trap()
	tampered := lockOf(t, denier("2.0.0", 402).Wasm())
	tampered.lock.Plugins[0].SHA256 = strings.Repeat("0", 64)
	for want, lock := range map[string][]byte{
		"version is 0":            []byte("a"),
		"cleat_init":              b.with(t, lockOf(t, trapping.Wasm()), "trap-"),
		"sha256":                  b.with(t, tampered, "tampered-"),
		"check admission/x":       b.with(t, lockOf(t, denier("3.0.0", 403).Wasm()), "bad-"),
		"is a shadow of a plugin": []byte("version = 1\n[[plugin]]\nname='x'\nshadow=true\n"),
	} {
		if want == "version is 0" {
			lock = []byte("version = 0")
		}
		if _, err := h.Reload(t.Context(), lock); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
		if got := verdictCode(t, h); got != 401 {
			t.Errorf("%s: code %d", want, got)
		}
	}
	if len(h.live) != 1 {
		t.Errorf("%d generations are left", len(h.live))
	}
}

// TestRollBack: a new version that traps never costs a request its answer, and
// the old one comes back by itself.
func TestRollBack(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm())
	var seen notices
	h := b.open(t, seen.observe)
	bad := denier("2.0.0", 402)
	bad.Hooks[hostabi.ExportAdmissionValidate] = guesttest.Trap()
	if _, err := h.Reload(t.Context(), b.with(t, lockOf(t, bad.Wasm()), "new-")); err != nil {
		t.Fatal(err)
	}
	for range trialFaults {
		if got := verdictCode(t, h); got != 401 {
			t.Fatalf("code %d during the trial, want the old plugin's", got)
		}
	}
	eventually(t, "the roll-back", func() bool { return h.Stats()[0].Version == "1.0.0" })
	if got := verdictCode(t, h); got != 401 {
		t.Errorf("code %d", got)
	}
	eventually(t, "the notice", func() bool { return seen.has(NoticeRolledBack) && seen.has(NoticeFault) })
}

func TestTrialEnds(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm())
	h := b.open(t, func(o *Options) { o.Trial = 10 * time.Millisecond })
	if _, err := h.Reload(t.Context(), b.with(t, lockOf(t, denier("2.0.0", 402).Wasm()), "new-")); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the generation before to be closed", func() bool {
		h.mu.Lock()
		defer h.mu.Unlock()
		return len(h.live) == 1
	})
	if got := verdictCode(t, h); got != 402 {
		t.Errorf("code %d", got)
	}
}

// TestShadow: the shadow's verdict is compared, logged and without effect.
func TestShadow(t *testing.T) {
	b := lockOf(t, denier("1.0.0", 401).Wasm())
	other := lockOf(t, denier("2.0.0", 402).Wasm())
	b.with(t, other, "shadow-")
	shadow := other.lock.Plugins[0]
	shadow.Shadow, shadow.Order = true, 99
	b.lock.Plugins = append(b.lock.Plugins, shadow)
	var seen notices
	var log logs
	h := b.open(t, seen.observe, log.option)
	if got := verdictCode(t, h); got != 401 {
		t.Errorf("code %d, the shadow decides", got)
	}
	if result, err := h.Mutate(t.Context(), pod()); err != nil || !result.Allowed {
		t.Errorf("mutate: %+v, %v", result, err)
	}
	eventually(t, "the comparison", func() bool { s := h.Stats()[1]; return s.Shadow && s.Shadowed == 2 && s.Differed == 1 })
	eventually(t, "a word of the difference", func() bool {
		return seen.has(NoticeDiffers) && strings.Contains(log.String(), "shadow decided otherwise")
	})
}
