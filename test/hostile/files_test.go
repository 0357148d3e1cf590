package hostile

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// realPlugin is a plugin of the bundle when it was built, else the neighbour.
func realPlugin(t testing.TB) []byte {
	t.Helper()
	wasm, err := os.ReadFile(filepath.Join("..", "..", "build", "bundle", "plugins", "admission-baseline.wasm"))
	if errors.Is(err, os.ErrNotExist) {
		return neighbour()
	}
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// checkDamaged holds a damaged plugin to what must hold: inspection ends, and the
// entry of the undamaged one does not fit it.
func checkDamaged(t *testing.T, entry pluginhost.LockedPlugin, wasm, damaged []byte) {
	t.Helper()
	if bytes.Equal(wasm, damaged) {
		return
	}
	_, _ = pluginhost.Inspect(damaged) // may pass: names and code can be damaged
	_, err := pluginhost.Verify(entry, damaged)
	var differs *pluginhost.Mismatch
	if !errors.As(err, &differs) || differs.Field != "sha256" || differs.Fix == "" {
		t.Errorf("a damaged file is verified: %v", err)
	}
}

// runDamaged opens and asks a damaged plugin as if it had been locked like that.
// Whatever it does, the host lives and answers.
func runDamaged(t *testing.T, wasm []byte) {
	t.Helper()
	ins, err := pluginhost.Inspect(wasm)
	if err != nil {
		return
	}
	m := ins.Manifest
	if m.Limits.DeadlineMS == 0 || m.Limits.DeadlineMS > 50 {
		m.Limits.DeadlineMS = 50
	}
	entry, err := pluginhost.Propose(ins, "embedded:"+m.Name+".wasm", 10)
	if err != nil {
		return
	}
	entry.Limits.DeadlineMS = 50
	entry.Limits.MemoryPages = min(entry.Limits.MemoryPages, 512)
	if _, err := pluginhost.Verify(entry, wasm); err != nil {
		return
	}
	h, err := pluginhost.Open(context.Background(), options(t, &logBook{}, guestFile{wasm, entry}))
	if err != nil {
		return
	}
	defer closeHost(t, h)
	if _, err := h.Validate(context.Background(), request("pods")); err != nil {
		t.Errorf("validate: %v", err)
	}
	if _, err := h.Mutate(context.Background(), request("pods")); err != nil {
		t.Errorf("mutate: %v", err)
	}
}

func entryOf(t testing.TB, wasm []byte) pluginhost.LockedPlugin {
	t.Helper()
	return lockOf(t, wasm)[0].entry
}

// FuzzTruncated cuts a plugin off anywhere.
func FuzzTruncated(f *testing.F) {
	wasm := realPlugin(f)
	entry := entryOf(f, wasm)
	for _, n := range []int{0, 4, 8, 9, 100, len(wasm) / 2, len(wasm) - 1} {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, n int) {
		if n >= 0 && n < len(wasm) {
			checkDamaged(t, entry, wasm, wasm[:n])
		}
	})
}

// FuzzBitFlip flips bits anywhere in a plugin.
func FuzzBitFlip(f *testing.F) {
	wasm := realPlugin(f)
	entry := entryOf(f, wasm)
	for _, at := range []uint{0, 9 * 8, 12 * 8, 8000, uint(len(wasm)) * 4, uint(len(wasm))*8 - 1} {
		f.Add(at, byte(1))
	}
	f.Fuzz(func(t *testing.T, bit uint, more byte) {
		damaged := bytes.Clone(wasm)
		damaged[bit/8%uint(len(wasm))] ^= more | 1<<(bit%8)
		checkDamaged(t, entry, wasm, damaged)
	})
}

// FuzzDamagedGuestRuns flips bits of a small guest that uses most of what a guest
// can, and runs what still looks like a plugin.
func FuzzDamagedGuestRuns(f *testing.F) {
	wasm := versatile()
	for at := range uint(len(wasm)) {
		if at%7 == 0 {
			f.Add(at*8+at%8, at*11)
		}
	}
	f.Fuzz(func(t *testing.T, one, two uint) {
		damaged := bytes.Clone(wasm)
		for _, bit := range []uint{one, two} {
			damaged[bit/8%uint(len(wasm))] ^= 1 << (bit % 8)
		}
		runDamaged(t, damaged)
	})
}

// versatile is a guest with every section and many instructions.
func versatile() []byte {
	m := admission("versatile")
	m.hostFunc(hostabi.ModuleObject, "path_register")
	get := m.hostFunc(hostabi.ModuleObject, "object_get")
	m.hostFunc(hostabi.ModuleWASI, "fd_write")
	leaf := m.fn("i", "i", guesttest.Get(0), guesttest.I32(1), guesttest.Add())
	m.tables, m.elements = [][]byte{table(2, 4)}, [][]byte{element(leaf, leaf)}
	m.globals = [][]byte{{typeI32, 1, 0x41, 5, opEnd}, {typeI64, 0, 0x42, 7, opEnd}}
	m.data = [][]byte{active(1024, []byte("metadata.labels")), join([]byte{1}, text("passive"))}
	m.hook(hostabi.ExportInitialize, guesttest.I32(0), guesttest.I32(0), guesttest.I32(7), []byte{0xfc, 8, 1, 0}, []byte{0xfc, 9, 1})
	m.hook(hostabi.ExportInit, guesttest.I32(1024), guesttest.I32(15), guesttest.Call(0))
	m.hook(hostabi.ExportAdmissionMutate, guesttest.I32(3), guesttest.I32(1), callIndirect(m.typeOf("i", "i")), guesttest.I32(4), []byte{0x47})
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Until(join(guesttest.Get(2), guesttest.I32(1), guesttest.Add(), guesttest.Set(2), guesttest.Get(2), guesttest.I32(9), guesttest.Equal())),
		guesttest.Get(0), guesttest.I32(0), guesttest.I32(2048), guesttest.I32(100), guesttest.Call(get), guesttest.Drop(), guesttest.I32(0))
	return m.bytes()
}

// TestDamagedFiles is what of the fuzzing runs every time: a few hundred cuts and
// flips of a real plugin, and every single bit of a small one.
func TestDamagedFiles(t *testing.T) {
	wasm := realPlugin(t)
	entry := entryOf(t, wasm)
	random := rand.New(rand.NewPCG(1, 2))
	for range 150 {
		checkDamaged(t, entry, wasm, wasm[:random.IntN(len(wasm))])
		damaged := bytes.Clone(wasm)
		damaged[random.IntN(len(wasm))] ^= 1 << random.IntN(8)
		checkDamaged(t, entry, wasm, damaged)
	}
	small := versatile()
	before := measure(t)
	begin := time.Now()
	for bit := range 8 * len(small) {
		damaged := bytes.Clone(small)
		damaged[bit/8] ^= 1 << (bit % 8)
		runDamaged(t, damaged)
	}
	after := measure(t)
	t.Logf("%d flipped bits in %s; before: %s; after: %s", 8*len(small), time.Since(begin).Round(time.Millisecond), before, after)
	if after.goroutines > before.goroutines+leftThreads || after.heap > before.heap+leftHeap || after.files > before.files {
		t.Error("something is left")
	}
	if after.mappings > before.mappings+leftMappings {
		t.Errorf("%d mappings are left", after.mappings-before.mappings)
	}
}

// swaps are what could stand in a plugin's place when it is read again.
func swaps(t *testing.T, path string) map[string]func() {
	t.Helper()
	write := func(wasm []byte) func() {
		return func() {
			if err := os.WriteFile(path, wasm, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	gone := func() {
		if err := os.RemoveAll(path); err != nil {
			t.Fatal(err)
		}
	}
	evil := plan("planner", hostabi.PointDeployer)
	evil.hook(hostabi.ExportDeployerRender, guesttest.Forever(nil))
	outside := filepath.Join(t.TempDir(), "outside.wasm")
	if err := os.WriteFile(outside, evil.bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return map[string]func(){
		"another plugin": write(evil.bytes()),
		"nothing":        write(nil),
		"no file":        gone,
		"a directory": func() {
			gone()
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		},
		"a link out of the directory": func() {
			gone()
			if err := os.Symlink(outside, path); err != nil {
				t.Fatal(err)
			}
		},
		"a file of a hundred GiB": func() {
			if err := os.Truncate(path, 100<<30); err != nil {
				t.Fatal(err)
			}
		},
	}
}

// TestSwappedBeforeOpen changes a plugin between lock and start.
func TestSwappedBeforeOpen(t *testing.T) {
	good := plan("planner", hostabi.PointDeployer)
	for name := range swaps(t, filepath.Join(t.TempDir(), "x")) {
		t.Run(name, func(t *testing.T) {
			o, path := onDisk(t, good.bytes(), &logBook{})
			swaps(t, path)[name]()
			h, err := pluginhost.Open(context.Background(), o)
			if err == nil {
				closeHost(t, h)
				t.Fatal("the host opens it")
			}
			if !strings.Contains(err.Error(), "planner") {
				t.Errorf("the error names no plugin: %v", err)
			}
		})
	}
}

// TestSwappedBeforeReload changes a plugin while its code is dropped, which
// happens half a minute after its last call.
func TestSwappedBeforeReload(t *testing.T) {
	good := plan("planner", hostabi.PointDeployer)
	good.hook(hostabi.ExportDeployerRender, guesttest.I32(1)) // not mine
	for name := range swaps(t, filepath.Join(t.TempDir(), "x")) {
		for _, policy := range []hostabi.FailurePolicy{hostabi.FailurePolicyFail, hostabi.FailurePolicyIgnore} {
			t.Run(name+", "+string(policy), func(t *testing.T) {
				good.manifest.FailurePolicy = policy
				log := &logBook{}
				o, path := onDisk(t, good.bytes(), log)
				swap := swaps(t, path)[name]
				synctest.Test(t, func(t *testing.T) {
					h, err := pluginhost.Open(t.Context(), o)
					if err != nil {
						t.Fatal(err)
					}
					if _, claimed, err := h.Render(t.Context(), deployInput()); claimed || err != nil {
						t.Errorf("before: %t, %v", claimed, err)
					}
					time.Sleep(time.Minute) // of the bubble: the code is dropped
					synctest.Wait()
					swap()
					_, claimed, err := h.Render(t.Context(), deployInput())
					if claimed || (err != nil) != (policy == hostabi.FailurePolicyFail) {
						t.Errorf("after: claimed %t, %v", claimed, err)
					}
					got := log.String()
					if err != nil {
						got = err.Error()
					}
					if !strings.Contains(got, "planner") {
						t.Errorf("no word of it: %s", got)
					}
					if err := os.RemoveAll(path); err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, good.bytes(), 0o600); err != nil {
						t.Fatal(err)
					}
					time.Sleep(time.Hour) // past the circuit breaker
					if _, claimed, err := h.Render(t.Context(), deployInput()); claimed || err != nil {
						t.Errorf("restored: %t, %v", claimed, err)
					}
					if err := h.Close(t.Context()); err != nil {
						t.Error(err)
					}
				})
			})
		}
	}
}

// onDisk puts a plugin into a plugins directory.
func onDisk(t *testing.T, wasm []byte, log *logBook) (o pluginhost.Options, path string) {
	t.Helper()
	dir := t.TempDir()
	path = filepath.Join(dir, "planner.wasm")
	if err := os.WriteFile(path, wasm, 0o600); err != nil {
		t.Fatal(err)
	}
	file := lockOf(t, wasm)[0]
	file.entry.Source = "file:planner.wasm"
	o = options(t, log, file)
	o.Embedded, o.PluginsDir = nil, dir
	return o, path
}

// TestHoleDamagedCache flips bits and cuts off what is left in the directory of
// compiled code, as a failing disk does. It is code that runs as it is.
func TestHoleDamagedCache(t *testing.T) {
	wasm := versatile()
	random := rand.New(rand.NewPCG(3, 4))
	damage := map[string]func(entry []byte) []byte{
		"cut off": func(e []byte) []byte { return e[:random.IntN(len(e))] },
		"empty":   func([]byte) []byte { return nil },
		"a bit of its head": func(e []byte) []byte {
			e[random.IntN(96)] ^= 1 << random.IntN(8)
			return e
		},
		"a bit anywhere": func(e []byte) []byte {
			e[random.IntN(len(e))] ^= 1 << random.IntN(8)
			return e
		},
	}
	for name, hurt := range damage {
		t.Run(name, func(t *testing.T) {
			for range 12 {
				dir := t.TempDir()
				if saw := inChild(t, wasm, time.Minute, childCache+"="+dir); !saw.Allowed {
					t.Fatalf("with a fresh cache: %v", saw)
				}
				entries, err := filepath.Glob(filepath.Join(dir, "wazero-*", "*"))
				if err != nil || len(entries) == 0 {
					t.Fatalf("no entries: %v, %v", entries, err)
				}
				for _, e := range entries {
					content, err := os.ReadFile(e)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(e, hurt(content), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				if saw := inChild(t, wasm, time.Minute, childCache+"="+dir); saw.Died != "" || !saw.Allowed {
					t.Errorf("%v", saw)
				}
			}
		})
	}
}
