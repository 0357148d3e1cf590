package pluginhost

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/google/go-cmp/cmp"
)

// registerPaths is a cleat_init that registers the texts, which it finds in
// data one behind the other, and fails with the first negative answer. The
// function is import 0.
func registerPaths(texts ...string) (init []byte, data []byte) {
	at := int32(guesttest.DataAddress)
	for _, s := range texts {
		init = guesttest.Code(init,
			guesttest.I32(at), guesttest.I32(int32(len(s))), guesttest.Call(0), guesttest.Set(0),
			guesttest.Get(0), []byte{0x41, 0, 0x48}, guesttest.If(guesttest.Code(guesttest.Get(0), guesttest.Return())))
		at += int32(len(s))
		data = append(data, s...)
	}
	return guesttest.Code(init, guesttest.I32(0)), data
}

// objectGuest registers paths and runs body in both hooks; import 1 is name of
// the object module.
func objectGuest(name string, paths []string, function string, mutate, validate []byte) guesttest.Guest {
	init, data := registerPaths(paths...)
	g := guesttest.Guest{
		Manifest: guesttest.Admission(name),
		Imports: []guesttest.Import{
			guesttest.HostFunction(hostabi.ModuleObject, "path_register"),
			guesttest.HostFunction(hostabi.ModuleObject, function),
			guesttest.HostFunction(hostabi.ModuleRequest, "deny"),
			guesttest.HostFunction(hostabi.ModuleCore, "error_set"),
		},
		Hooks: map[string][]byte{
			hostabi.ExportInit:              init,
			hostabi.ExportAdmissionMutate:   mutate,
			hostabi.ExportAdmissionValidate: validate,
		},
		Data: data,
	}
	return g
}

// valueAt is where tests put an encoded value, and denyAt where a denial is.
const (
	valueAt = 8192
	bufAt   = 16384
)

// set is the code of object_set with a value the guest builds byte by byte.
func set(handle []byte, path, index int32, v any) []byte {
	value, err := hostabi.AppendValue(nil, v)
	if err != nil {
		panic(err)
	}
	for len(value)%4 != 0 {
		value = append(value, 0)
	}
	var code []byte
	for i := 0; i < len(value); i += 4 {
		code = guesttest.Code(code, guesttest.I32(int32(valueAt+i)), guesttest.I32(int32(binary.LittleEndian.Uint32(value[i:]))), guesttest.Store())
	}
	n, _ := hostabi.AppendValue(nil, v)
	return guesttest.Code(code, handle, guesttest.I32(path), guesttest.I32(index), guesttest.I32(valueAt), guesttest.I32(int32(len(n))), guesttest.Call(1))
}

func TestMutationsInOrder(t *testing.T) {
	handle := guesttest.Get(0)
	allow := guesttest.I32(0)
	first := objectGuest("first", []string{"metadata.labels.color", "spec.containers[*].image"}, "object_set",
		guesttest.Code(set(handle, 0, -1, "blue"), guesttest.Drop(), set(handle, 1, 1, "b:2")), allow)
	second := objectGuest("second", []string{"metadata.labels.color"}, "object_set", set(handle, 0, -1, "green"), allow)
	third := objectGuest("third", []string{"metadata.labels.size"}, "object_set", allow, allow)
	h := lockOf(t, first.Wasm(), second.Wasm(), third.Wasm()).open(t)

	req := pod()
	original, err := req.Object()
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	req.Object = func() (map[string]any, error) { calls++; return original, nil }
	result, err := h.Mutate(t.Context(), req)
	if err != nil || !result.Allowed {
		t.Fatalf("got %+v, %v", result, err)
	}
	want := map[string]any{
		"metadata": map[string]any{"name": "web", "labels": map[string]any{"app": "web", "color": "green"}},
		"spec": map[string]any{"containers": []any{
			map[string]any{"name": "a", "image": "a:1"},
			map[string]any{"name": "b", "image": "b:2"},
		}},
	}
	if diff := cmp.Diff(want, result.Object); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
	untouched, _ := pod().Object()
	if diff := cmp.Diff(untouched, original); diff != "" {
		t.Errorf("the request's object was written (-want +got):\n%s", diff)
	}
	if calls != 1 {
		t.Errorf("the object was fetched %d times, want once", calls)
	}
	if result, err := h.Validate(t.Context(), pod()); err != nil || result.Object != nil {
		t.Errorf("validation: %+v, %v, want no object", result, err)
	}
}

// TestDeniedDropsMutations has a guest write and then fail or deny.
func TestDeniedDropsMutations(t *testing.T) {
	for verdict, code := range map[int32]int32{1: 403, -1: 500} {
		g := objectGuest("g", []string{"metadata.labels.color"}, "object_set",
			guesttest.Code(set(guesttest.Get(0), 0, -1, "blue"), guesttest.Drop(), guesttest.I32(verdict)), guesttest.I32(0))
		result, err := lockOf(t, g.Wasm()).open(t).Mutate(t.Context(), pod())
		if err != nil || result.Allowed || result.Object != nil || result.Code != code {
			t.Errorf("verdict %d: got %+v, %v", verdict, result, err)
		}
	}
}

// TestHostFunctionErrors calls host functions with every kind of bad argument;
// the hook returns what the function answered, so that the answer ends up in
// the fault.
func TestHostFunctionErrors(t *testing.T) {
	h, i := guesttest.Get(0), guesttest.I32
	c := guesttest.Code
	paths := []string{"metadata.labels", "spec.containers[*].image"}
	tests := []struct {
		name     string
		function string
		body     []byte
		want     hostabi.Errno
	}{
		{"dead handle", "object_get", c(i(77), i(0), i(bufAt), i(100), guesttest.Call(1)), hostabi.EBADF},
		{"unknown path id", "object_get", c(h, i(2), i(bufAt), i(100), guesttest.Call(1)), hostabi.EINVAL},
		{"negative path id", "object_get", c(h, i(-1), i(bufAt), i(100), guesttest.Call(1)), hostabi.EINVAL},
		{"buffer outside memory", "object_get", c(h, i(0), i(65530), i(100), guesttest.Call(1)), hostabi.EINVAL},
		{"buffer wraps around", "object_get", c(h, i(0), i(-4), i(100), guesttest.Call(1)), hostabi.EINVAL},
		{"register outside init", "path_register", c(i(guesttest.DataAddress), i(15), guesttest.Call(1)), hostabi.ENOTSUP},
		{"value outside memory", "object_set", c(h, i(0), i(-1), i(-1), i(100), guesttest.Call(1)), hostabi.EINVAL},
		{"huge value", "object_set", c(h, i(0), i(-1), i(0), i(-1), guesttest.Call(1)), hostabi.E2BIG},
		{"malformed value", "object_set", c(h, i(0), i(-1), i(bufAt), i(0), guesttest.Call(1)), hostabi.EINVAL},
		{"index without list", "object_set", set(h, 0, 0, "x"), hostabi.EINVAL},
		{"no index for a list", "object_set", set(h, 1, -1, "x"), hostabi.EINVAL},
		{"index behind the end", "object_set", set(h, 1, 2, "x"), hostabi.ENOENT},
		{"remove behind the end", "object_remove", c(h, i(1), i(1<<30), guesttest.Call(1)), hostabi.ENOENT},
		{"append to an unknown path", "object_append", c(h, i(9), i(-1), i(0), i(1), guesttest.Call(1)), hostabi.EINVAL},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			g := objectGuest("g", paths, test.function, test.body, guesttest.I32(0))
			result, err := lockOf(t, g.Wasm()).open(t).Mutate(t.Context(), pod())
			if err != nil {
				t.Fatal(err)
			}
			want := test.want.Error()
			if test.name == "malformed value" {
				want = "truncated or malformed"
			}
			if result.Allowed || !strings.Contains(result.Message, want) {
				t.Errorf("got %+v, want %s", result, want)
			}
		})
	}
	t.Run("mutation in the validating hook", func(t *testing.T) {
		g := objectGuest("g", paths, "object_set", guesttest.I32(0), set(h, 0, -1, "x"))
		result, err := lockOf(t, g.Wasm()).open(t).Validate(t.Context(), pod())
		if err != nil || !strings.Contains(result.Message, hostabi.ENOTSUP.Error()) {
			t.Errorf("got %+v, %v", result, err)
		}
	})
}

// TestUngrantedPath has a guest register a path its manifest does not declare.
func TestUngrantedPath(t *testing.T) {
	g := objectGuest("curious", []string{"spec.serviceAccountName"}, "object_get", guesttest.I32(0), guesttest.I32(0))
	_, err := Open(t.Context(), lockOf(t, g.Wasm()).options(t))
	var fault *Fault
	if !errors.As(err, &fault) || fault.Plugin != "curious" || fault.Kind != FaultStart ||
		!strings.Contains(fault.Error(), "field path spec.serviceAccountName is neither among the read paths nor the write paths") {
		t.Errorf("got %v", err)
	}
}

// TestReadNeedsReadPath has a guest read what it may only write, and write what
// it may only read.
func TestReadNeedsReadPath(t *testing.T) {
	h := guesttest.Get(0)
	for _, function := range []string{"object_get", "object_set"} {
		body := set(h, 0, -1, "x")
		if function == "object_get" {
			body = guesttest.Code(h, guesttest.I32(0), guesttest.I32(bufAt), guesttest.I32(100), guesttest.Call(1))
		}
		g := objectGuest("g", []string{"spec.hostname"}, function, body, guesttest.I32(0))
		if function == "object_get" {
			g.Manifest.Admission.WritePaths = []string{"spec.hostname"}
		} else {
			g.Manifest.Admission.ReadPaths = []string{"spec.hostname"}
		}
		result, err := lockOf(t, g.Wasm()).open(t).Mutate(t.Context(), pod())
		if err != nil || result.Allowed || !strings.Contains(result.Message, hostabi.EACCES.Error()) {
			t.Errorf("%s: got %+v, %v", function, result, err)
		}
	}
}

// TestDenyWarnAudit has a guest use every way to speak to the client.
func TestDenyWarnAudit(t *testing.T) {
	i, h := guesttest.I32, guesttest.Get(0)
	text := "no such luck\nwarn me\x00twicekey"
	say := func(call uint32, from, n int32, more ...[]byte) []byte {
		return guesttest.Code(h, i(guesttest.DataAddress+from), i(n), guesttest.Code(more...), guesttest.Call(call), guesttest.Drop())
	}
	g := guesttest.Guest{
		Manifest: guesttest.Admission("speaker"),
		Imports: []guesttest.Import{
			guesttest.HostFunction(hostabi.ModuleRequest, "deny"),
			guesttest.HostFunction(hostabi.ModuleRequest, "warn"),
			guesttest.HostFunction(hostabi.ModuleRequest, "audit"),
		},
		Data: []byte(text),
		Hooks: map[string][]byte{
			hostabi.ExportAdmissionMutate: guesttest.I32(1),
			hostabi.ExportAdmissionValidate: guesttest.Code(
				say(0, 0, 12, i(422)), say(1, 13, 13), say(2, 26, 3, i(guesttest.DataAddress), i(2)),
				say(0, 0, 12, i(200)), // no denial: the code is out of range
				i(1)),
		},
	}
	h1 := lockOf(t, g.Wasm()).open(t)
	got, err := h1.Validate(t.Context(), pod())
	if err != nil {
		t.Fatal(err)
	}
	want := extension.AdmissionResult{Plugin: "speaker", Message: "no such luck", Code: 422,
		Warnings: []string{"warn me twice"}, AuditAnnotations: map[string]string{"speaker/key": "no", "speaker/validate": "denied"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
	got, err = h1.Mutate(t.Context(), pod())
	if err != nil || got.Message != "denied without a reason" || got.Code != 403 {
		t.Errorf("without a message: %+v, %v", got, err)
	}
	if s := h1.Stats()[0]; s.Denies != 2 || s.Errors != 0 {
		t.Errorf("stats %+v", s)
	}
}

// TestRequestFields compares what request_get and namespace_label_get hand out.
func TestRequestFields(t *testing.T) {
	i, h := guesttest.I32, guesttest.Get(0)
	req := &extension.AdmissionRequest{ID: "id-1", Operation: hostabi.OperationUpdate, Group: "apps", Version: "v1", Kind: "Deployment",
		Resource: "deployments", Subresource: "scale", Namespace: "ns", Name: "web", UserName: "alice", DryRun: true,
		NamespaceLabels: func() (map[string]string, error) { return map[string]string{"team": "red"}, nil }}
	want := []string{"UPDATE", "apps", "v1", "Deployment", "deployments", "scale", "ns", "web", "alice", "true", "id-1"}
	rule := hostabi.MatchRule{Name: "all", Operations: []hostabi.Operation{"*"}, APIGroups: []string{"*"}, APIVersions: []string{"*"}, Resources: []string{"*/*"}}
	// The guest denies with the text it got; deny takes the length from the answer.
	guest := func(get []byte) *Host {
		g := guesttest.Guest{
			Manifest: guesttest.Admission("fields", rule),
			Imports: []guesttest.Import{
				guesttest.HostFunction(hostabi.ModuleRequest, "request_get"),
				guesttest.HostFunction(hostabi.ModuleRequest, "namespace_label_get"),
				guesttest.HostFunction(hostabi.ModuleRequest, "deny"),
			},
			Data: []byte("team"),
		}
		body := guesttest.Code(get, guesttest.Set(2), h, i(bufAt), guesttest.Get(2), i(0), guesttest.Call(2), guesttest.Drop(), i(1))
		g.Hooks = map[string][]byte{hostabi.ExportAdmissionMutate: guesttest.I32(0), hostabi.ExportAdmissionValidate: body}
		return lockOf(t, g.Wasm()).open(t)
	}
	for field, text := range want {
		got, err := guest(guesttest.Code(h, i(int32(field)), i(bufAt), i(100), guesttest.Call(0))).Validate(t.Context(), req)
		if err != nil || got.Message != text {
			t.Errorf("field %d: %q, %v, want %q", field, got.Message, err, text)
		}
	}
	got, err := guest(guesttest.Code(h, i(guesttest.DataAddress), i(4), i(bufAt), i(100), guesttest.Call(1))).Validate(t.Context(), req)
	if err != nil || got.Message != "red" {
		t.Errorf("namespace label: %q, %v", got.Message, err)
	}
}

func TestRequestErrors(t *testing.T) {
	g := objectGuest("g", []string{"metadata.labels"}, "object_get",
		guesttest.Code(guesttest.Get(0), guesttest.I32(0), guesttest.I32(bufAt), guesttest.I32(1), guesttest.Call(1)), guesttest.I32(0))
	h := lockOf(t, g.Wasm()).open(t)
	req := pod()
	req.Object = func() (map[string]any, error) { return nil, errors.New("conversion is broken") }
	result, err := h.Mutate(t.Context(), req)
	if err != nil || result.Allowed || !strings.Contains(result.Message, "conversion is broken") {
		t.Errorf("got %+v, %v", result, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := h.Mutate(ctx, pod()); !errors.Is(err, context.Canceled) {
		t.Errorf("a request that is over: %v", err)
	}
}
