package pluginhost

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// fakeCluster holds one namespace and the plugins' state.
type fakeCluster struct {
	labels map[string]any
	state  map[string][]byte
	err    error
}

func (c *fakeCluster) Lookup(kind hostabi.Kind, namespace, name string) (map[string]any, error) {
	if c.err != nil || kind.Kind != "Namespace" || name != "red" {
		return nil, orError(c.err, extension.ErrNotFound)
	}
	return map[string]any{"metadata": map[string]any{"name": name, "labels": c.labels}, "data": "hidden"}, nil
}

func orError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

func (c *fakeCluster) LookupList(kind hostabi.Kind, _, _ string) ([]map[string]any, error) {
	o, err := c.Lookup(kind, "", "red")
	return []map[string]any{o, o}, err
}

func (c *fakeCluster) State(_ context.Context, plugin, key string) ([]byte, error) {
	return c.state[plugin+"/"+key], c.err
}

func (c *fakeCluster) SetState(_ context.Context, plugin string, values map[string][]byte) error {
	for k, v := range values {
		c.state[plugin+"/"+k] = v
	}
	return c.err
}

// The strings the curious guest passes, at known addresses.
const curiousData = "v1/Namespacered metadata.labels.teamseen"

func text(from string) (ptr, length []byte) {
	return guesttest.I32(int32(guesttest.DataAddress + strings.Index(curiousData, from))), guesttest.I32(int32(len(from)))
}

// curious denies with what it saw: the label of a namespace that it looked up,
// the last random byte and the seconds of the clock; it counts in its state.
func curious() guesttest.Guest {
	arg := func(texts ...string) []byte {
		var code []byte
		for _, s := range texts {
			if s == "" {
				code = guesttest.Code(code, guesttest.I32(0), guesttest.I32(0))
				continue
			}
			ptr, n := text(s)
			code = guesttest.Code(code, ptr, n)
		}
		return code
	}
	const buf, random, counter = 4096, 8192, 9000
	call, i := guesttest.Call, guesttest.I32
	label := guesttest.Local(2, 0)
	g := hook("curious", guesttest.Code(
		// the label, encoded: tag, length, text
		arg("v1/Namespace", "", "red", "metadata.labels.team"), i(buf), i(64), call(0), guesttest.Set(label),
		i(random), i(4), call(1), guesttest.Drop(),
		arg("seen"), i(counter), i(4), call(3), guesttest.Drop(),
		i(counter), i(counter), guesttest.Load(), i(1), guesttest.Add(), guesttest.Store(),
		arg("seen"), i(counter), i(4), call(4), guesttest.Drop(),
		// deny with the encoded label, the random bytes behind it
		guesttest.Get(label), guesttest.If(guesttest.Code(i(buf+16), i(random), guesttest.Load(), guesttest.Store())),
		guesttest.Get(0), i(buf+5), i(15), i(400), call(2), guesttest.Drop(), i(1)),
		guesttest.HostFunction(hostabi.ModuleLookup, "lookup_get"),
		guesttest.HostFunction(hostabi.ModuleCore, "random"),
		guesttest.HostFunction(hostabi.ModuleRequest, "deny"),
		guesttest.HostFunction(hostabi.ModuleKV, "kv_get"),
		guesttest.HostFunction(hostabi.ModuleKV, "kv_set"),
	)
	g.Manifest.ABI.Minor = 1
	g.Manifest.Capabilities = append(g.Manifest.Capabilities, hostabi.ModuleLookup, hostabi.ModuleKV)
	g.Manifest.Lookups = []string{"v1/Namespace"}
	g.Data = []byte(curiousData)
	return g
}

func TestClusterFunctions(t *testing.T) {
	cluster := &fakeCluster{labels: map[string]any{"team": "crimson"}, state: map[string][]byte{}}
	h := lockOf(t, curious().Wasm()).open(t, func(o *Options) { o.Cluster = cluster })
	for n := byte(1); n <= 3; n++ {
		result, err := h.Validate(t.Context(), pod())
		if err != nil || !strings.HasPrefix(result.Message, "crimson") {
			t.Fatalf("got %+v, %v", result, err)
		}
		if got := cluster.state["curious/seen"]; len(got) != 4 || got[0] != n {
			t.Errorf("state after %d calls: %v", n, got)
		}
	}
	dry := pod()
	dry.DryRun = true
	if _, err := h.Validate(t.Context(), dry); err != nil || cluster.state["curious/seen"][0] != 3 {
		t.Errorf("a dry run changed the state to %v, %v", cluster.state, err)
	}
	cluster.err = extension.ErrNotReady
	if result, err := h.Validate(t.Context(), pod()); err != nil || !strings.Contains(result.Message, "state could not be stored") {
		t.Errorf("without a datastore: %+v, %v", result, err)
	}
	if s := h.Stats()[0]; s.Faults != 1 {
		t.Errorf("faults %d", s.Faults)
	}
}

func TestLookupIsGrantedByKind(t *testing.T) {
	g := curious()
	g.Manifest.Lookups = []string{"v1/Pod"}
	g.Hooks[hostabi.ExportAdmissionValidate] = guesttest.Code(g.Hooks[hostabi.ExportAdmissionValidate][:0],
		func() []byte {
			kind, n := text("v1/Namespace")
			name, m := text("red")
			return guesttest.Code(kind, n, guesttest.I32(0), guesttest.I32(0), name, m, guesttest.I32(0), guesttest.I32(0),
				guesttest.I32(4096), guesttest.I32(64), guesttest.Call(0))
		}())
	h := lockOf(t, g.Wasm()).open(t, func(o *Options) { o.Cluster = &fakeCluster{} })
	result, err := h.Validate(t.Context(), pod())
	if err != nil || !strings.Contains(result.Message, "v1/Namespace is not among the lookups the lock grants") {
		t.Errorf("got %+v, %v", result, err)
	}
}

// TestReplay: a captured denial has the same outcome again, though clock,
// random numbers, namespace and state are others by then.
func TestReplay(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "captures")
	cluster := &fakeCluster{labels: map[string]any{"team": "crimson"}, state: map[string][]byte{}}
	b := lockOf(t, curious().Wasm())
	h := b.open(t, func(o *Options) { o.Cluster, o.CaptureDir, o.CaptureMode = cluster, dir, CaptureDecisions })
	req := pod()
	object, _ := req.Object()
	object["spec"].(map[string]any)["containers"].([]any)[0].(map[string]any)["env"] = []any{map[string]any{"name": "P", "value": "hunter2"}}
	req.Object = func() (map[string]any, error) { return object, nil }
	if _, err := h.Validate(t.Context(), req); err != nil {
		t.Fatal(err)
	}
	var files []string
	eventually(t, "the capture", func() bool {
		files, _ = filepath.Glob(filepath.Join(dir, "*.json"))
		return len(files) == 1
	})
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(files[0]); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	for _, secret := range []string{"hunter2", "hidden"} {
		if strings.Contains(string(text), secret) {
			t.Errorf("the capture holds %q, which the plugin did not read:\n%s", secret, text)
		}
	}
	capture, err := ParseCapture(text)
	if err != nil {
		t.Fatal(err)
	}
	cluster.labels["team"] = "blue"
	for range 2 {
		got, err := Replay(t.Context(), b.options(t), b.lock.Plugins[0], capture)
		if err != nil || !got.Same || got.Replayed.Verdict != VerdictDeny || !strings.HasPrefix(got.Replayed.Message, "crimson") {
			t.Errorf("replayed %+v, %v", got, err)
		}
	}
	// Another version is asked the same and may differ.
	other := lockOf(t, denier("9.0.0", 499).Wasm())
	got, err := Replay(t.Context(), other.options(t), other.lock.Plugins[0], capture)
	if err != nil || got.Same || got.Replayed.Code != 499 {
		t.Errorf("another version: %+v, %v", got, err)
	}
}

func TestCaptureRedacts(t *testing.T) {
	object := map[string]any{
		"kind":     "Secret",
		"data":     map[string]any{"password": "aHVudGVyMg=="},
		"metadata": map[string]any{"annotations": map[string]any{lastApplied: "hunter2"}},
		"spec":     map[string]any{"containers": []any{map[string]any{"env": []any{map[string]any{"name": "P", "value": "hunter2"}}}}},
	}
	if !redactObject(object, false) {
		t.Error("nothing was found")
	}
	text, err := hostabi.AppendJSON(nil, object)
	if err != nil || strings.Contains(string(text), "hunter2") || strings.Contains(string(text), "aHVu") {
		t.Errorf("%s, %v", text, err)
	}
}

func TestPrune(t *testing.T) {
	object, err := hostabi.ParseJSON([]byte(`{"a":{"b":1,"c":2},"l":[{"x":1,"y":2},{"y":3},"s"],"z":9}`))
	if err != nil {
		t.Fatal(err)
	}
	var paths []hostabi.FieldPath
	for _, p := range []string{"a.b", "l[*].x", "none.at.all"} {
		path, err := hostabi.ParseFieldPath(p)
		if err != nil {
			t.Fatal(err)
		}
		paths = append(paths, path)
	}
	text, err := hostabi.AppendJSON(nil, prune(object.(map[string]any), paths))
	if want := `{"a":{"b":1},"l":[{"x":1},null,null]}`; err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
}

func TestParseCaptureRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"{":                    "capture:",
		`{"version":7}`:        "version is 7",
		`{"version":1,"a":{}}`: "",
	} {
		if _, err := ParseCapture([]byte(text)); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, err, want)
		}
	}
}

func TestLatencyQuantiles(t *testing.T) {
	var h histogram
	for range 98 {
		h.observe(900) // the bucket from 500 ns to 1 µs
	}
	h.observe(1 << 30)
	h.observe(1 << 62)
	l := h.read()
	if p50, p99 := l.Quantile(0.5), l.Quantile(0.985); p50 < 500 || p50 > 1000 || p99 < 1<<29 || p99 > 1<<31 || l.Count() != 100 {
		t.Errorf("p50 %s, p99 %s, count %d", p50, p99, l.Count())
	}
}

// TestReplayBundle replays a denial of a plugin made by the Go compiler, whose
// runtime does not like a clock that stands still at 0.
func TestReplayBundle(t *testing.T) {
	b := realBundle(t)
	dir := t.TempDir()
	h := openReal(t, func(o *Options) { o.CaptureDir, o.CaptureMode = dir, CaptureDecisions })
	req := pod()
	req.NamespaceLabels = func() (map[string]string, error) {
		return map[string]string{"baseline.cleat.dev/enforce": "true"}, nil
	}
	req.Object = func() (map[string]any, error) {
		return map[string]any{"spec": map[string]any{"hostNetwork": true}}, nil
	}
	if result, err := h.Validate(t.Context(), req); err != nil || result.Allowed {
		t.Fatalf("got %+v, %v", result, err)
	}
	var files []string
	eventually(t, "the capture", func() bool {
		files, _ = filepath.Glob(filepath.Join(dir, "*.json"))
		return len(files) == 1
	})
	text, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	capture, err := ParseCapture(text)
	if err != nil {
		t.Fatal(err)
	}
	locked := b.lock.Find("admission-baseline")
	got, err := Replay(t.Context(), b.options(t), *locked, capture)
	if err != nil || !got.Same || got.Replayed.Verdict != VerdictDeny {
		t.Errorf("replayed %+v, %v", got, err)
	}
}
