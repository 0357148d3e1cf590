//go:build !wasip1

package admission_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

// probe lets each test put its own handlers behind the one registration a
// package can have.
type probe struct {
	images, labels, name, replicas, finalizers, ports *admission.Path
	mutate, validate                                  func(*admission.Request)
}

// newProbe registers a plugin whose handlers the test sets.
func newProbe() *probe {
	p := &probe{
		images:     admission.NewPath("spec.containers[*].image"),
		labels:     admission.NewPath("metadata.labels"),
		name:       admission.NewPath("metadata.name"),
		replicas:   admission.NewPath("spec.replicas"),
		finalizers: admission.NewPath("metadata.finalizers"),
		ports:      admission.NewPath("spec.containers[*].ports[*].hostPort"),
	}
	admission.Register(admission.Plugin{
		Mutate:   func(r *admission.Request) { p.mutate(r) },
		Validate: func(r *admission.Request) { p.validate(r) },
	})
	return p
}

const object = `{"metadata":{"labels":{"a":"b"}},"spec":{"replicas":3,"ratio":1.5,"containers":[
	{"image":"a:1","ports":[{"hostPort":80},{}]},{"ports":[{"hostPort":81}]},{"image":"c:1"}]}}`

func request() plugintest.Request {
	return plugintest.Request{
		ID: "id-1", Operation: hostabi.OperationUpdate, Group: "g", Version: "v1", Kind: "K", Resource: "rs", Subresource: "",
		Namespace: "ns", Name: "n", User: "u", DryRun: true, NamespaceLabels: map[string]string{"l": "v", "empty": ""},
		Object: object, OldObject: `{"old":true}`,
	}
}

func TestAdmission(t *testing.T) {
	p := newProbe()
	plugin := plugintest.New(t, "testdata/manifest.json", nil)

	t.Run("reads", func(t *testing.T) {
		p.validate = func(r *admission.Request) {
			if v := r.Get(p.replicas); v.IsNull() {
				t.Error("replicas are absent")
			} else if n, ok := v.Int(); !ok || n != 3 {
				t.Errorf("replicas %d, %v", n, ok)
			}
			if text, ok := r.Get(p.labels).JSON(); !ok || string(text) != `{"a":"b"}` {
				t.Errorf("labels %s, %v", text, ok)
			}
			if !r.Get(p.finalizers).IsNull() {
				t.Error("finalizers are there")
			}
			var images []string
			list := r.Get(p.images).List()
			for v, ok := list.Next(); ok; v, ok = list.Next() {
				text, _ := v.Text()
				images = append(images, string(text))
			}
			if !reflect.DeepEqual(images, []string{"a:1", "", "c:1"}) {
				t.Errorf("images %q", images)
			}
			if n := r.Get(p.ports).List().Len(); n != 3 {
				t.Errorf("%d ports", n)
			}
			got := []string{r.ID(), r.Operation(), r.Group(), r.Version(), r.Kind(), r.Resource(), r.Subresource(), r.Namespace(), r.Name(), r.User()}
			if want := []string{"id-1", "UPDATE", "g", "v1", "K", "rs", "", "ns", "n", "u"}; !reflect.DeepEqual(got, want) {
				t.Errorf("request %q", got)
			}
			if !r.DryRun() || !r.Rule(0) || r.Rule(1) || r.Rule(64) || r.Rule(-1) {
				t.Error("dry run or rules are wrong")
			}
			if v, ok := r.NamespaceLabel("l"); !ok || v != "v" {
				t.Errorf("label l is %q, %v", v, ok)
			}
			if v, ok := r.NamespaceLabel("empty"); !ok || v != "" {
				t.Errorf("label empty is %q, %v", v, ok)
			}
			if _, ok := r.NamespaceLabel("none"); ok {
				t.Error("label none is there")
			}
			if text := string(r.OldJSON()); text != `{"old":true}` {
				t.Errorf("old object %s", text)
			}
			if text := string(r.JSON()); !strings.Contains(text, `"ratio":1.5`) {
				t.Errorf("object %s", text)
			}
		}
		if v, err := plugin.Validate(request()); err != nil || !v.Allowed {
			t.Errorf("%+v, %v", v, err)
		}
	})

	t.Run("large values", func(t *testing.T) {
		large := request()
		name := strings.Repeat("x", 10_000)
		large.Object = `{"spec":{"containers":[{"image":"` + name + `"},{"image":"b"}]}}`
		p.validate = func(r *admission.Request) {
			first := r.Get(p.images)
			for range 20 {
				r.Get(p.images)
			}
			list := first.List()
			v, _ := list.Next()
			if text, _ := v.Text(); string(text) != name {
				t.Errorf("an earlier value has changed; it has %d bytes", len(text))
			}
		}
		if v, err := plugin.Validate(large); err != nil || !v.Allowed {
			t.Errorf("%+v, %v", v, err)
		}
	})

	t.Run("denies", func(t *testing.T) {
		p.validate = func(r *admission.Request) {
			r.Warn("careful")
			r.Audit("key", "value")
			r.DenyWithStatus(422, "spec.replicas: 3 is odd; use 2")
		}
		v, err := plugin.Validate(request())
		want := plugintest.Verdict{
			Entered: true, Code: 422, Message: "spec.replicas: 3 is odd; use 2",
			Warnings: []string{"careful"}, Annotations: map[string]string{"key": "value"},
		}
		if err != nil || !reflect.DeepEqual(v, want) {
			t.Errorf("got %+v, %v", v, err)
		}
	})

	t.Run("mutates", func(t *testing.T) {
		p.mutate = func(r *admission.Request) {
			r.SetInt(p.replicas, admission.Single, 2)
			r.SetString(p.images, 1, "b:1")
			r.SetJSON(p.labels, admission.Single, []byte(`{"x":"y"}`))
			r.SetBool(p.replicas, admission.Single, true)
			r.Remove(p.ports, 2)
			r.AppendString(p.finalizers, admission.Single, "f")
			r.AppendJSON(p.finalizers, admission.Single, []byte(`{"a":1}`))
		}
		v, err := plugin.Mutate(request())
		want := []plugintest.Mutation{
			{Op: "set", Path: "spec.replicas", Index: -1, Value: int64(2)},
			{Op: "set", Path: "spec.containers[*].image", Index: 1, Value: "b:1"},
			{Op: "set", Path: "metadata.labels", Index: -1, Value: map[string]any{"x": "y"}},
			{Op: "set", Path: "spec.replicas", Index: -1, Value: true},
			{Op: "remove", Path: "spec.containers[*].ports[*].hostPort", Index: 2},
			{Op: "append", Path: "metadata.finalizers", Index: -1, Value: "f"},
			{Op: "append", Path: "metadata.finalizers", Index: -1, Value: map[string]any{"a": int64(1)}},
		}
		if err != nil || !reflect.DeepEqual(v.Mutations, want) {
			t.Errorf("got %+v, %v", v.Mutations, err)
		}
	})

	// A mistake of the plugin is never a verdict.
	for _, tt := range []struct {
		name  string
		hook  func(r *admission.Request)
		wants string
	}{
		{"write without a grant", func(r *admission.Request) { r.SetString(p.name, admission.Single, "x"); r.Deny("no") }, "set metadata.name: not declared"},
		{"no such element", func(r *admission.Request) { r.SetString(p.images, 9, "x") }, "set spec.containers[*].image: no such entry (ENOENT)"},
		{"no index", func(r *admission.Request) { r.SetString(p.images, admission.Single, "x") }, "set spec.containers[*].image: malformed argument (EINVAL)"},
		{"status", func(r *admission.Request) { r.DenyWithStatus(200, "no") }, "EINVAL"},
		{"fails", func(r *admission.Request) { r.Fail("out of ideas"); r.Deny("no") }, "out of ideas"},
		{"too many warnings", func(r *admission.Request) {
			for range 40 {
				r.Warn("x")
			}
		}, "E2BIG"},
		{"path made too late", func(r *admission.Request) { r.Get(admission.NewPath("spec")) }, "get spec: malformed argument (EINVAL)"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p.mutate = tt.hook
			v, err := plugin.Mutate(request())
			if err == nil || v.Allowed || !strings.Contains(err.Error(), tt.wants) {
				t.Errorf("%+v, %v, want %q", v, err, tt.wants)
			}
		})
	}

	t.Run("validation does not mutate", func(t *testing.T) {
		p.validate = func(r *admission.Request) { r.SetInt(p.replicas, admission.Single, 1) }
		if _, err := plugin.Validate(request()); err == nil || !strings.Contains(err.Error(), "ENOTSUP") {
			t.Errorf("got %v", err)
		}
	})

	t.Run("does not allocate", func(t *testing.T) {
		encoded, err := hostabi.AppendValue(nil, []any{"a:1", nil, "registry.example.org:5000/app:2"})
		if err != nil {
			t.Fatal(err)
		}
		defer abi.Use(&constant{value: encoded})()
		p.validate = func(r *admission.Request) {
			for range 20 {
				list := r.Get(p.images).List()
				for v, ok := list.Next(); ok; v, ok = list.Next() {
					v.Text()
				}
			}
		}
		if n := testing.AllocsPerRun(100, func() {
			if guest.Call("cleat_admission_validate", 1, 1) != 0 {
				t.Error("not allowed")
			}
		}); n != 0 {
			t.Errorf("%v allocations in a hook that allows", n)
		}
	})
}

// constant is a host where every field has the same value.
type constant struct {
	abi.Host
	value []byte
}

func (c *constant) ObjectGet(_, _ int32, buf []byte) int32 {
	if len(buf) >= len(c.value) {
		copy(buf, c.value)
	}
	return int32(len(c.value))
}
