package main

import (
	"fmt"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func createPod(labels map[string]string, object string) plugintest.Request {
	return plugintest.Request{
		ID: "1", Operation: hostabi.OperationCreate, Version: "v1", Kind: "Pod", Resource: "pods",
		Namespace: "ns", User: "alice", NamespaceLabels: labels, Object: object,
	}
}

func enforce() map[string]string {
	return map[string]string{"baseline.cleat.dev/enforce": "true"}
}

const goodPod = `{"spec":{"containers":[{"name":"a","image":"nginx:1.27"}]}}`

func TestValidate(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	const digest = "sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"
	for _, tt := range []struct {
		name, pod string
		want      string // message, "" = allowed
	}{
		{"good", goodPod, ""},
		{"digest", `{"spec":{"containers":[{"image":"nginx@` + digest + `"}]}}`, ""},
		{"tag and digest", `{"spec":{"containers":[{"image":"localhost:5000/a/b:1@` + digest + `"}]}}`, ""},
		{"port and tag", `{"spec":{"containers":[{"image":"localhost:5000/app:1"}]}}`, ""},
		{"unprivileged", `{"spec":{"hostPID":false,"containers":[{"image":"a:1","securityContext":{"privileged":false}}]}}`, ""},
		{"no containers", `{"spec":{}}`, ""},
		{"no image", `{"spec":{"containers":[{"name":"a"},{"image":""}]}}`, ""},
		{"no tag", `{"spec":{"containers":[{"image":"a:1"},{"image":"nginx"}]}}`,
			`spec.containers[1].image: "nginx" has no tag or digest; write nginx:<tag> or nginx@sha256:<digest>`},
		{"port without tag", `{"spec":{"containers":[{"image":"localhost:5000/app"}]}}`,
			`spec.containers[0].image: "localhost:5000/app" has no tag or digest; write localhost:5000/app:<tag> or localhost:5000/app@sha256:<digest>`},
		{"empty tag", `{"spec":{"containers":[{"image":"nginx:"}]}}`,
			`spec.containers[0].image: "nginx" has no tag or digest; write nginx:<tag> or nginx@sha256:<digest>`},
		{"empty digest", `{"spec":{"containers":[{"image":"nginx:1@"}]}}`,
			`spec.containers[0].image: "nginx:1" has no tag or digest; write nginx:1:<tag> or nginx:1@sha256:<digest>`},
		{"privileged", `{"spec":{"containers":[{"image":"a:1"},{"image":"a:1","securityContext":{"privileged":true}}]}}`,
			`spec.containers[1].securityContext.privileged: true is not allowed in this namespace; leave it out`},
		{"privileged init", `{"spec":{"initContainers":[{"image":"a:1","securityContext":{"privileged":true}}],"containers":[{"image":"a:1"}]}}`,
			`spec.initContainers[0].securityContext.privileged: true is not allowed in this namespace; leave it out`},
		{"ephemeral", `{"spec":{"containers":[{"image":"a:1"}],"ephemeralContainers":[{"image":"b"}]}}`,
			`spec.ephemeralContainers[0].image: "b" has no tag or digest; write b:<tag> or b@sha256:<digest>`},
		{"host network", `{"spec":{"hostNetwork":true,"containers":[{"image":"a:1"}]}}`,
			`spec.hostNetwork: true is not allowed in this namespace; leave it out`},
		{"host PID", `{"spec":{"hostPID":true,"containers":[{"image":"a:1"}]}}`,
			`spec.hostPID: true is not allowed in this namespace; leave it out`},
		{"host IPC", `{"spec":{"hostIPC":true,"containers":[{"image":"a:1"}]}}`,
			`spec.hostIPC: true is not allowed in this namespace; leave it out`},
		{"two findings", `{"spec":{"hostNetwork":true,"containers":[{"image":"a"}]}}`,
			`spec.hostNetwork: true is not allowed in this namespace; leave it out; also spec.containers[0].image: "a" has no tag or digest; write a:<tag> or a@sha256:<digest>`},
		{"wrong types", `{"spec":{"hostNetwork":"true","containers":{"image":"a"}}}`, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := p.Validate(createPod(enforce(), tt.pod))
			if err != nil || !v.Entered {
				t.Fatalf("entered %v, %v", v.Entered, err)
			}
			if v.Allowed != (tt.want == "") || v.Message != tt.want {
				t.Errorf("allowed %v\ngot  %s\nwant %s", v.Allowed, v.Message, tt.want)
			}
			if !v.Allowed && v.Code != 403 {
				t.Errorf("code %d", v.Code)
			}
		})
	}
}

func TestHostileImageNames(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	for _, image := range []string{`a\nb`, `\u0000`, `\u007f/x`, strings.Repeat("x", 5000), `:`, `@`, `a\"b`} {
		v, err := p.Validate(createPod(enforce(), `{"spec":{"containers":[{"image":"`+image+`"}]}}`))
		if err != nil || v.Allowed {
			t.Errorf("%.20q: allowed %v, %v", image, v.Allowed, err)
		}
		if strings.ContainsFunc(v.Message, func(r rune) bool { return r < 0x20 || r == 0x7f }) || len(v.Message) > 500 {
			t.Errorf("%.20q: message %q", image, v.Message)
		}
	}
}

func TestManyFindings(t *testing.T) {
	var images []string
	for range 500 {
		images = append(images, `{"image":"`+strings.Repeat("x", 100)+`"}`)
	}
	v, err := plugintest.New(t, manifest, nil).Validate(createPod(enforce(), `{"spec":{"containers":[`+strings.Join(images, ",")+`]}}`))
	if err != nil || v.Allowed || !strings.HasSuffix(v.Message, "; and 492 more") {
		t.Errorf("allowed %v, %v, message of %d bytes ends in %.20s", v.Allowed, err, len(v.Message), v.Message[max(0, len(v.Message)-20):])
	}
}

// Nothing is refused, and no guest entered, where the label does not ask for it.
func TestOnlyLabelledNamespaces(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	bad := `{"spec":{"hostNetwork":true,"containers":[{"image":"a"}]}}`
	for _, labels := range []map[string]string{nil, {}, {"baseline.cleat.dev/enforce": "false"}, {"other": "true"}} {
		v, err := p.Validate(createPod(labels, bad))
		if err != nil || v.Entered || !v.Allowed {
			t.Errorf("%v: %+v, %v", labels, v, err)
		}
	}
	// The other label matches a rule, but is not for validation.
	v, err := p.Validate(createPod(map[string]string{"baseline.cleat.dev/automount": "false"}, bad))
	if err != nil || !v.Allowed {
		t.Errorf("automount label: %+v, %v", v, err)
	}
}

func TestOtherRequests(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	bad := `{"spec":{"containers":[{"image":"a:1"}],"ephemeralContainers":[{"image":"b","securityContext":{"privileged":true}}]}}`
	for _, tt := range []struct {
		operation             hostabi.Operation
		resource, subresource string
		group                 string
		allowed               bool
	}{
		{hostabi.OperationUpdate, "pods", "ephemeralcontainers", "", false},
		{hostabi.OperationUpdate, "pods", "", "", false},
		{hostabi.OperationUpdate, "pods", "status", "", true},
		{hostabi.OperationCreate, "pods", "binding", "", true},
		{hostabi.OperationDelete, "pods", "", "", true},
		{hostabi.OperationCreate, "deployments", "", "apps", true},
	} {
		req := createPod(enforce(), bad)
		req.Operation, req.Resource, req.Subresource, req.Group = tt.operation, tt.resource, tt.subresource, tt.group
		v, err := p.Validate(req)
		if err != nil || v.Allowed != tt.allowed || v.Entered == tt.allowed {
			t.Errorf("%s %s/%s: %+v, %v", tt.operation, tt.resource, tt.subresource, v, err)
		}
	}
}

func TestMutate(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	labels := map[string]string{"baseline.cleat.dev/automount": "false"}
	want := plugintest.Mutation{Op: "set", Path: "spec.automountServiceAccountToken", Index: -1, Value: false}
	for _, tt := range []struct {
		name, pod string
		labels    map[string]string
		mutates   bool
	}{
		{"absent", goodPod, labels, true},
		{"asked for", `{"spec":{"automountServiceAccountToken":true}}`, labels, true},
		{"already off", `{"spec":{"automountServiceAccountToken":false}}`, labels, false},
		{"other label", goodPod, enforce(), false},
		{"no label", goodPod, nil, false},
		{"label of another value", goodPod, map[string]string{"baseline.cleat.dev/automount": "true"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := p.Mutate(createPod(tt.labels, tt.pod))
			if err != nil || !v.Allowed {
				t.Fatalf("%+v, %v", v, err)
			}
			if mutates := len(v.Mutations) == 1 && v.Mutations[0] == want; mutates != tt.mutates || len(v.Mutations) > 1 {
				t.Errorf("mutations %+v", v.Mutations)
			}
		})
	}
}

// Both labels together: one hook does not do the other's work.
func TestBothLabels(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	labels := enforce()
	labels["baseline.cleat.dev/automount"] = "false"
	req := createPod(labels, `{"spec":{"hostPID":true,"containers":[{"image":"a:1"}]}}`)
	req.DryRun = true
	mutated, err := p.Mutate(req)
	if err != nil || !mutated.Allowed || len(mutated.Mutations) != 1 {
		t.Errorf("mutate: %+v, %v", mutated, err)
	}
	validated, err := p.Validate(req)
	if err != nil || validated.Allowed || !strings.HasPrefix(validated.Message, "spec.hostPID") {
		t.Errorf("validate: %+v, %v", validated, err)
	}
}

func FuzzPinned(f *testing.F) {
	for _, seed := range []string{"nginx", "nginx:1", "a:5000/b", "a@sha256:00", "", "/:", "@"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, image string) {
		if got := pinned([]byte(image)); got && !strings.ContainsAny(image, ":@") {
			t.Errorf("%q is pinned", image)
		}
		if !pinned([]byte(image+":1")) || !pinned([]byte(image+"@sha256:0")) {
			t.Errorf("%q with a tag is not pinned", image)
		}
		if name := shorten([]byte(image)); len(name) > 400 || strings.ContainsAny(name, "\n\r\x00") {
			t.Errorf("%q becomes %q", image, name)
		}
	})
}

func BenchmarkValidate(b *testing.B) {
	p := plugintest.New(b, manifest, nil)
	containers := strings.TrimSuffix(strings.Repeat(`{"image":"registry.example.org:5000/app:1"},`, 20), ",")
	req := createPod(enforce(), fmt.Sprintf(`{"spec":{"containers":[%s]}}`, containers))
	for b.Loop() {
		if v, err := p.Validate(req); err != nil || !v.Allowed {
			b.Fatal(v, err)
		}
	}
}
