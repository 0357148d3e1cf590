//go:build !wasip1

package plugintest_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
	"github.com/cleat-dev/cleat/pluginsdk/datastore"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/lookup"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
	"github.com/cleat-dev/cleat/pluginsdk/state"
)

// probe lets each test put its own handlers behind the one registration a
// package can have.
type probe struct {
	*plugintest.Plugin
	validate func(r *admission.Request) error
	deploy   func(req hostabi.DeployRequest) error
	store    func() error
}

func TestHost(t *testing.T) {
	p := &probe{}
	admission.Register(admission.Plugin{Validate: func(r *admission.Request) {
		if err := p.validate(r); err != nil {
			r.Fail(err.Error())
		}
	}})
	deployer.Register(func(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
		return hostabi.DeployResult{}, p.deploy(req)
	})
	datastore.Register(func(hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
		return hostabi.DatastorePlan{}, p.store()
	})
	for name, test := range map[string]func(t *testing.T, p *probe){
		"user": testUser, "clock and chance": testClock, "lookups": testLookups, "refused lookups": testRefusedLookups,
		"state": testState, "state of a failed hook": testFailedState, "renderers": testRenderers, "claims": testClaims,
		"datastore": testDatastore,
	} {
		t.Run(name, func(t *testing.T) {
			p.Plugin = plugintest.New(t, "testdata/manifest.json", nil)
			test(t, p)
		})
	}
}

// ask runs hook as the admission hook of a request that matches.
func (p *probe) ask(t *testing.T, hook func(r *admission.Request) error, change ...func(*plugintest.Request)) plugintest.Verdict {
	t.Helper()
	v, err := p.tryAsk(hook, change...)
	if err != nil {
		t.Error(err)
	}
	return v
}

func (p *probe) tryAsk(hook func(r *admission.Request) error, change ...func(*plugintest.Request)) (plugintest.Verdict, error) {
	req := plugintest.Request{Operation: hostabi.OperationCreate, Version: "v1", Resource: "pods"}
	for _, c := range change {
		c(&req)
	}
	p.validate = hook
	return p.Validate(req)
}

func testUser(t *testing.T, p *probe) {
	p.ask(t, func(r *admission.Request) error {
		if got := r.UserUID(); got != "u-1" {
			t.Errorf("uid %q", got)
		}
		if got := r.UserGroups(); !slices.Equal(got, []string{"a", "b"}) {
			t.Errorf("groups %q", got)
		}
		if !r.InGroup("b") || r.InGroup("c") {
			t.Error("in a group that is not there, or the other way round")
		}
		if got, ok := r.UserExtra("scopes"); !ok || !slices.Equal(got, []string{"x"}) {
			t.Errorf("extra %q, %v", got, ok)
		}
		if got, ok := r.UserExtra("empty"); !ok || len(got) != 0 {
			t.Errorf("empty extra %q, %v", got, ok)
		}
		if got, ok := r.UserExtra("none"); ok {
			t.Errorf("extra %q where there is none", got)
		}
		return nil
	}, func(r *plugintest.Request) {
		r.UserUID, r.UserGroups, r.UserExtra = "u-1", []string{"a", "b"}, map[string][]string{"scopes": {"x"}, "empty": {}}
	})
}

func testClock(t *testing.T, p *probe) {
	read := func() (now int64, random []byte) {
		random = make([]byte, 10_000) // more than one host call fills
		p.ask(t, func(*admission.Request) error {
			now = pluginsdk.Now()
			return pluginsdk.Random(random)
		})
		return now, random
	}
	now, random := read()
	if got := time.Unix(0, now).UTC(); !got.Equal(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the time is %v", got)
	}
	if _, again := read(); !bytes.Equal(random, again) {
		t.Error("two calls get different random bytes")
	}
	if bytes.Equal(random[:4096], random[4096:8192]) {
		t.Error("the same bytes twice in one call")
	}
	p.Now, p.Random = time.Unix(5, 6), strings.NewReader(strings.Repeat("x", 10_000))
	if now, random = read(); now != 5e9+6 || string(random) != strings.Repeat("x", 10_000) {
		t.Errorf("now %d, random %.10q", now, random)
	}
	if _, err := p.tryAsk(func(*admission.Request) error { return pluginsdk.Random(make([]byte, 1)) }); err == nil {
		t.Error("a source that has ended gives random bytes")
	}
}

func testLookups(t *testing.T, p *probe) {
	p.Objects = []string{
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"b","labels":{"tier":"gold"}}}`,
		`{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"x","namespace":"b"},"spec":{"list":[{"n":1},{}]}}`,
		`{"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"y","namespace":"a","labels":{"tier":"iron"}}}`,
		`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`,
	}
	native := func(v wire.Value, err error) any {
		switch {
		case err != nil:
			t.Error(err)
		case v.IsNull():
			return nil
		case v.Tag == wire.TagList:
			var list []any
			values := v.List()
			for e, ok := values.Next(); ok; e, ok = values.Next() {
				text, _ := e.Text()
				list = append(list, string(text))
			}
			return list
		}
		text, isText := v.Text()
		if !isText {
			text, _ = v.JSON()
		}
		return string(text)
	}
	p.ask(t, func(*admission.Request) error {
		for _, tt := range []struct{ got, want any }{
			{native(lookup.Get("v1/Namespace", "", "b", "metadata.labels.tier")), "gold"},
			{native(lookup.Get("v1/Namespace", "", "a", "metadata.labels.tier")), nil},
			{native(lookup.Get("v1/Namespace", "", "a", "")), `{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"a"}}`},
			{native(lookup.List("v1/Namespace", "", "", "metadata.name")), []any{"a", "b"}},
			{native(lookup.List("apps/v1/Deployment", "", "", "metadata.name")), []any{"y", "x"}},
			{native(lookup.List("apps/v1/Deployment", "b", "", "metadata.name")), []any{"x"}},
			{native(lookup.List("v1/Namespace", "", "tier=gold", "metadata.name")), []any{"b"}},
			{native(lookup.List("v1/Namespace", "", "tier==gold,tier in (iron, gold),tier", "metadata.name")), []any{"b"}},
			{native(lookup.List("v1/Namespace", "", "tier!=gold", "metadata.name")), []any{"a"}},
			{native(lookup.List("v1/Namespace", "", "!tier , tier notin (x)", "metadata.name")), []any{"a"}},
			{native(lookup.List("v1/Namespace", "", "none", "metadata.name")), []any(nil)},
		} {
			if got, want := hostText(tt.got), hostText(tt.want); got != want {
				t.Errorf("got %s, want %s", got, want)
			}
		}
		v, err := lookup.Get("apps/v1/Deployment", "b", "x", "spec.list[*].n")
		list := v.List()
		if first, _ := list.Next(); err != nil || v.List().Len() != 2 || first.Tag != wire.TagInt {
			t.Errorf("list of numbers: %+v, %v", v, err)
		}
		return nil
	})
}

func hostText(v any) string {
	text, _ := json.Marshal(v)
	return string(text)
}

func testRefusedLookups(t *testing.T, p *probe) {
	p.Objects = []string{`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"s"}}`}
	errnos := func() map[string]error {
		got := map[string]error{}
		p.ask(t, func(*admission.Request) error {
			_, got["other kind"] = lookup.Get("v1/Secret", "", "s", "")
			_, got["malformed kind"] = lookup.Get("Namespace", "", "s", "")
			_, got["malformed path"] = lookup.Get("v1/Namespace", "", "s", "a..b")
			_, got["no name"] = lookup.Get("v1/Namespace", "", "", "")
			_, got["no object"] = lookup.Get("v1/Namespace", "", "s", "")
			_, got["malformed selector"] = lookup.List("v1/Namespace", "", "a in b", "")
			_, got["good"] = lookup.List("v1/Namespace", "", "", "")
			return nil
		})
		return got
	}
	want := map[string]error{"other kind": wire.EACCES, "malformed kind": wire.EINVAL, "malformed path": wire.EINVAL,
		"no name": wire.EINVAL, "no object": wire.ENOENT, "malformed selector": wire.EINVAL, "good": nil}
	if got := errnos(); !maps.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	p.ClusterErrno = hostabi.EIO
	if got := errnos()["good"]; got != wire.EIO {
		t.Errorf("from a cluster that is not ready: %v", got)
	}
}

func testState(t *testing.T, p *probe) {
	p.State = map[string][]byte{"old": []byte("1"), "gone": []byte("1")}
	v := p.ask(t, func(r *admission.Request) error {
		key := []byte("new")
		err := errors.Join(state.Set(string(key), []byte("first")), state.Set("new", []byte("2")), state.Set("gone", nil))
		if value, get := state.Get("new"); string(value) != "2" || get != nil {
			t.Errorf("what was set is %q, %v", value, get)
		}
		if _, get := state.Get("gone"); get != wire.ENOENT {
			t.Errorf("what was removed gives %v", get)
		}
		for _, key := range []string{"", strings.Repeat("x", 254), "\xff"} {
			if set := state.Set(key, nil); set != wire.EINVAL {
				t.Errorf("key %.10q: %v", key, set)
			}
		}
		if set := state.Set("big", make([]byte, hostabi.MaxStateValue+1)); set != wire.E2BIG {
			t.Errorf("a big value: %v", set)
		}
		r.Deny("a denial keeps state too")
		return err
	})
	if len(v.State) != 2 || string(v.State["new"]) != "2" || len(v.State["gone"]) != 0 {
		t.Errorf("the hook set %q", v.State)
	}
	if len(p.State) != 2 || string(p.State["new"]) != "2" || string(p.State["old"]) != "1" {
		t.Errorf("the state is %q", p.State)
	}
	p.ask(t, func(*admission.Request) error { return state.Set("dry", []byte("x")) }, func(r *plugintest.Request) { r.DryRun = true })
	if p.State["dry"] != nil {
		t.Error("a dry run was kept")
	}
	p.deploy = func(hostabi.DeployRequest) error { return state.Set("deployed", []byte("x")) }
	if _, _, err := p.Deploy(hostabi.DeployRequest{File: "a.yaml"}); err != nil || p.State["deployed"] == nil {
		t.Errorf("a deployer's state: %q, %v", p.State, err)
	}
}

func testFailedState(t *testing.T, p *probe) {
	if _, err := p.tryAsk(func(*admission.Request) error {
		return errors.Join(state.Set("a", []byte("x")), errors.New("out of ideas"))
	}); err == nil || len(p.State) != 0 {
		t.Errorf("a failed hook: %q, %v", p.State, err)
	}
	p.State = map[string][]byte{}
	for i := range hostabi.MaxStateKeys {
		p.State[string(rune('a'+i))] = []byte("x")
	}
	if _, err := p.tryAsk(func(*admission.Request) error { return state.Set("one more", []byte("x")) }); err == nil || len(p.State) != hostabi.MaxStateKeys {
		t.Errorf("too many keys: %d, %v", len(p.State), err)
	}
}

func testRenderers(t *testing.T, p *probe) {
	in := hostabi.DeployRequest{File: "app", Addon: "app", Kind: hostabi.DeployKindDirectory, Files: []string{"Chart.yaml"},
		Companions: map[string]string{"*.values.yaml": "a: b"}}
	var helm hostabi.HelmResult
	var objects []json.RawMessage
	p.deploy = func(req hostabi.DeployRequest) (err error) {
		if req.Kind != in.Kind || !slices.Equal(req.Files, in.Files) || !maps.Equal(req.Companions, in.Companions) {
			t.Errorf("asked for %+v", req)
		}
		if helm, err = deployer.RenderHelm(hostabi.HelmRequest{Release: "r", Namespace: "n", Values: json.RawMessage(`{"a":"b"}`)}); err != nil {
			return err
		}
		objects, err = deployer.RenderKustomize(hostabi.KustomizeRequest{Path: "overlay"})
		return err
	}
	if _, _, err := p.Deploy(in); err == nil || !strings.Contains(err.Error(), "ENOTSUP") {
		t.Errorf("without a renderer: %v", err)
	}
	large := json.RawMessage(`{"large":"` + strings.Repeat("x", 200<<10) + `"}`)
	rendered := 0
	p.RenderHelm = func(got hostabi.DeployRequest, req hostabi.HelmRequest) (hostabi.HelmResult, error) {
		rendered++
		if got.File != "app" || req.Release != "r" || string(req.Values) != `{"a":"b"}` {
			t.Errorf("rendered %+v of %+v", req, got)
		}
		return hostabi.HelmResult{Name: "chart", Objects: []json.RawMessage{large}}, nil
	}
	p.RenderKustomize = func(_ hostabi.DeployRequest, req hostabi.KustomizeRequest) ([]json.RawMessage, error) {
		if req.Path != "overlay" {
			return nil, errors.New("no such overlay")
		}
		return []json.RawMessage{json.RawMessage(`{}`)}, nil
	}
	if _, claimed, err := p.Deploy(in); err != nil || !claimed || helm.Name != "chart" || string(helm.Objects[0]) != string(large) || len(objects) != 1 {
		t.Errorf("claimed %v, %s with %d objects, %d objects, %v", claimed, helm.Name, len(helm.Objects), len(objects), err)
	}
	if rendered != 1 {
		t.Errorf("a buffer that was too small had the chart rendered %d times", rendered)
	}
	p.RenderHelm = func(hostabi.DeployRequest, hostabi.HelmRequest) (hostabi.HelmResult, error) {
		return hostabi.HelmResult{}, errors.New("templates/a.yaml: line 3")
	}
	if _, _, err := p.Deploy(in); err == nil || !strings.Contains(err.Error(), "line 3") {
		t.Errorf("what the renderer says is lost: %v", err)
	}
}

func testClaims(t *testing.T, p *probe) {
	p.deploy = func(hostabi.DeployRequest) error { return nil }
	for _, tt := range []struct {
		req    hostabi.DeployRequest
		claims bool
	}{
		{hostabi.DeployRequest{Kind: hostabi.DeployKindFile, File: "a.yaml"}, true},
		{hostabi.DeployRequest{Kind: hostabi.DeployKindFile, File: "a.yml"}, false},
		{hostabi.DeployRequest{Kind: hostabi.DeployKindArchive, File: "a.tgz"}, true},
		{hostabi.DeployRequest{Kind: hostabi.DeployKindArchive, File: "a.zip"}, false},
		{hostabi.DeployRequest{Kind: hostabi.DeployKindDirectory, File: "a", Files: []string{"Chart.yaml", "x"}}, true},
		{hostabi.DeployRequest{Kind: hostabi.DeployKindDirectory, File: "a", Files: []string{"charts/b/Chart.yaml"}}, false},
		{hostabi.DeployRequest{Kind: "link", File: "a.yaml"}, false},
		{hostabi.DeployRequest{File: "a.toml"}, true}, // ABI 1.0
	} {
		if _, claimed, err := p.Deploy(tt.req); claimed != tt.claims || (err == nil) != tt.claims {
			t.Errorf("%+v: claimed %v, %v", tt.req, claimed, err)
		}
	}
}

// There is no cluster while the datastore is still being decided.
func testDatastore(t *testing.T, p *probe) {
	p.store = func() error {
		if _, err := lookup.List("v1/Namespace", "", "", ""); err != wire.ENOTSUP {
			t.Errorf("a lookup: %v", err)
		}
		if _, err := state.Get("a"); err != wire.ENOTSUP {
			t.Errorf("state: %v", err)
		}
		if pluginsdk.Now() == 0 {
			t.Error("there is no time")
		}
		return state.Set("a", nil)
	}
	if _, _, err := p.Datastore(hostabi.DatastoreRequest{}); err == nil || !strings.Contains(err.Error(), "ENOTSUP") {
		t.Errorf("setting state: %v", err)
	}
}
