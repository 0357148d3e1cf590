package pluginhost

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// planner is a datastore plugin whose output is text, or none for "".
func planner(name, text string, result int32) guesttest.Guest {
	code := guesttest.I32(result)
	if text != "" {
		code = guesttest.Code(guesttest.I32(guesttest.DataAddress), guesttest.I32(int32(len(text))), guesttest.Call(0), guesttest.Drop(), code)
	}
	return guesttest.Guest{
		Manifest: guesttest.Cold(name, hostabi.PointDatastore),
		Imports:  []guesttest.Import{guesttest.HostFunction(hostabi.ModuleCore, "output_set"), guesttest.HostFunction(hostabi.ModuleCore, "error_set")},
		Hooks:    map[string][]byte{hostabi.ExportDatastorePlan: code},
		Data:     []byte(text),
	}
}

func TestFirstThatClaims(t *testing.T) {
	h := lockOf(t, planner("shy", "", 1).Wasm(), planner("bold", `{"driver":"kine","shared":true}`, 0).Wasm(), planner("late", `{"driver":"etcd"}`, 0).Wasm()).open(t)
	plan, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{})
	if err != nil || plan.Driver != "kine" || !plan.Shared {
		t.Errorf("got %+v, %v", plan, err)
	}
	for i, want := range []uint64{1, 1, 0} {
		if got := h.Stats()[i].Calls; got != want {
			t.Errorf("plugin %d was called %d times, want %d", i, got, want)
		}
	}
}

func TestBadPlans(t *testing.T) {
	tests := map[string]struct {
		guest guesttest.Guest
		want  string
	}{
		"no output":  {planner("p", "", 0), "says that it decided, but set no output"},
		"no JSON":    {planner("p", "{", 0), "output: json"},
		"wrong type": {planner("p", `{"driver":5}`, 0), "cannot unmarshal number"},
		"two values": {planner("p", `{} {}`, 0), "text after the value"},
		"too deep":   {planner("p", strings.Repeat("[", 1000)+strings.Repeat("]", 1000), 0), "nested deeper"},
		"no result":  {planner("p", `{}`, 9), "returned 9, which is no result"},
		"error":      {planner("p", `{}`, -7), "not supported here (ENOTSUP)"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			b := lockOf(t, test.guest.Wasm())
			_, err := b.open(t).PlanDatastore(t.Context(), hostabi.DatastoreRequest{})
			if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "plugin p: cleat_datastore_plan") {
				t.Errorf("got %v, want %q", err, test.want)
			}
			b.lock.Plugins[0].FailurePolicy = hostabi.FailurePolicyIgnore
			_, err = b.open(t).PlanDatastore(t.Context(), hostabi.DatastoreRequest{Endpoint: "mysql://secret"})
			if err == nil || !strings.Contains(err.Error(), "no datastore plugin claims --datastore-endpoint \"mysql://…\"") {
				t.Errorf("ignored: got %v", err)
			}
		})
	}
}

// TestNewerPlan: a field of a newer ABI is not carried out and not an error.
func TestNewerPlan(t *testing.T) {
	var log logs
	h := lockOf(t, planner("p", `{"driver":"kine","format_disk":true}`, 0).Wasm()).open(t, log.option)
	plan, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{})
	if err != nil || plan.Driver != "kine" {
		t.Errorf("got %+v, %v", plan, err)
	}
	if !strings.Contains(log.String(), "format_disk") {
		t.Errorf("the log does not name the field:\n%s", log.String())
	}
}

func TestHugeRequest(t *testing.T) {
	h := lockOf(t, planner("p", "{}", 0).Wasm()).open(t)
	_, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{Endpoint: strings.Repeat("x", hostabi.MaxMessageBytes)})
	if err == nil || !strings.Contains(err.Error(), "at most 4194304 can be handed") {
		t.Errorf("got %v", err)
	}
}

func TestStartFails(t *testing.T) {
	g := planner("p", "the vni must be below 16777216", 0)
	g.Hooks[hostabi.ExportInit] = guesttest.Code(guesttest.I32(guesttest.DataAddress), guesttest.I32(30), guesttest.Call(1), guesttest.Drop(), guesttest.I32(-1))
	h := lockOf(t, g.Wasm()).open(t)
	for _, err := range []error{h.Probe(t.Context()), func() error { _, err := h.PlanDatastore(t.Context(), hostabi.DatastoreRequest{}); return err }()} {
		if err == nil || !strings.Contains(err.Error(), "plugin p: cleat_init: the vni must be below 16777216; check its config") {
			t.Errorf("got %v", err)
		}
	}
	endless := planner("p", "", 0)
	endless.Hooks[hostabi.ExportInitialize] = guesttest.Forever(nil)
	h = lockOf(t, endless.Wasm()).open(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := h.Probe(ctx); err == nil || !strings.Contains(err.Error(), "context canceled") {
		t.Errorf("got %v", err)
	}
}

func TestDocuments(t *testing.T) {
	tests := map[string]string{
		"":                                 `[]`,
		"# only a comment\n":               `[]`,
		"a: 1":                             `[{"a":1}]`,
		"---\na: 1\n":                      `[{"a":1}]`,
		"# c\n---\na: 1\n---\n---\nb: 2\n": `[{"a":1},null,{"b":2}]`,
		"a: 1\n--- # next\nb: 2\n...\n":    `[{"a":1},{"b":2},null]`,
		"a: |\n  ---\n  text\n":            `[{"a":"---\ntext\n"}]`,
		"---x: 1\n":                        `[{"---x":1}]`,
		"{\n\t\"a\": [1, 2.5, \"x\"]\n}":   `[{"a":[1,2.5,"x"]}]`,
		"{\"a\": 1}\n---\n{\"b\": 2}\n":    `[{"a":1},{"b":2}]`,
		"\ufeffa: 1\r\n---\r\nb: 2\r\n":    `[{"a":1},{"b":2}]`,
		"--- {a: 1}\n--- {b: 2}\n":         `[{"a":1},{"b":2}]`,
		"big: 12345678901234567\nf: 1e3\n": `[{"big":12345678901234567,"f":1000}]`,
	}
	for text, want := range tests {
		got, err := documents([]byte(text), maxParts, time.Now().Add(time.Minute))
		if err != nil || string(got) != want {
			t.Errorf("%q: got %s, %v, want %s", text, got, err, want)
		}
	}
	for text, want := range map[string]string{
		"a: [":          "document 1",
		"a: 1\n---\n\t": "document 2",
		"a: 1\na: 2\n":  "already set",
		"a: &x [1,1,1,1,1,1,1,1,1,1]\nb: &y [*x,*x,*x,*x,*x,*x,*x,*x,*x,*x]\nc: &z [*y,*y,*y,*y,*y,*y,*y,*y,*y,*y]\nd: &w [*z,*z,*z,*z,*z,*z,*z,*z,*z,*z]\ne: &v [*w,*w,*w,*w,*w,*w,*w,*w,*w,*w]\nf: &u [*v,*v,*v,*v,*v,*v,*v,*v,*v,*v]\ng: [*u,*u,*u,*u,*u,*u,*u,*u,*u,*u]\n": "excessive aliasing",
		strings.Repeat("---\n", maxDocuments+2): "more than 4096 documents",
	} {
		if _, err := documents([]byte(text), maxParts, time.Now().Add(time.Minute)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: got %v, want %q", text, err, want)
		}
	}
}

// FuzzDocuments parses arbitrary text; the result is always a canonical array.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte("a: 1\n---\n{\"b\": [1]}\n...\n"))
	f.Add([]byte("---\n---\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		out, err := documents(text, maxParts, time.Now().Add(time.Minute))
		if err != nil {
			return
		}
		again, err := hostabi.Canonical(out)
		if err != nil || string(again) != string(out) || out[0] != '[' {
			t.Fatalf("%v: %s is not a canonical array", err, out)
		}
	})
}
