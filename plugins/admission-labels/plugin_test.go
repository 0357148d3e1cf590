package main

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func TestReadme(t *testing.T) { plugintest.Readme(t, "README.md", manifest) }

func request(kind, metadata string) plugintest.Request {
	return plugintest.Request{
		ID: "1", Operation: hostabi.OperationCreate, Version: "v1", Kind: kind, Resource: resources[kind],
		Namespace: "shop", Name: "web", User: "alice", Object: `{"metadata":` + metadata + `}`,
	}
}

var resources = map[string]string{
	"Namespace": "namespaces", "Pod": "pods", "Deployment": "deployments", "StatefulSet": "statefulsets",
	"DaemonSet": "daemonsets", "Job": "jobs", "CronJob": "cronjobs", "Service": "services",
}

func wanted() map[string]any {
	return map[string]any{
		"required_labels":      map[string]string{"team": "red|blue", "example.org/tier": "*"},
		"default_labels":       map[string]string{"example.org/tier": "iron"},
		"required_annotations": map[string]string{"owner": "?*@example.org"},
		"default_annotations":  map[string]string{"note": "a | b, *"},
	}
}

const complete = `{"labels":{"team":"red","example.org/tier":"gold"},"annotations":{"owner":"a@example.org","note":""}}`

func TestKinds(t *testing.T) {
	every := plugintest.New(t, manifest, wanted())
	for _, kind := range knownKinds {
		if v, _, err := every.Admit(request(kind, "{}")); err != nil || v.Allowed || !v.Entered {
			t.Errorf("%s: %+v, %v", kind, v, err)
		}
		if v, _, err := every.Admit(request(kind, complete)); err != nil || !v.Allowed || len(v.Mutations) > 0 {
			t.Errorf("complete %s: %+v, %v", kind, v, err)
		}
	}
	if v, _, err := every.Admit(request("Service", "{}")); err != nil || !v.Allowed || v.Entered {
		t.Errorf("service: %+v, %v", v, err)
	}
	some := wanted()
	some["kinds"] = []string{"Pod"}
	p := plugintest.New(t, manifest, some)
	for kind, want := range map[string]bool{"Pod": false, "Deployment": true, "Namespace": true} {
		if v, _, err := p.Admit(request(kind, "{}")); err != nil || v.Allowed != want || want && len(v.Mutations) > 0 {
			t.Errorf("only pods, %s: %+v, %v", kind, v, err)
		}
	}
}

func TestMessages(t *testing.T) {
	p := plugintest.New(t, manifest, wanted())
	for metadata, want := range map[string]string{
		complete: "",
		"{}": "metadata.labels['example.org/tier'] is missing; set it to any value; also " +
			"metadata.labels.team is missing; set it to one of red, blue; also " +
			"metadata.annotations.owner is missing; set it to a value like ?*@example.org",
		`{"labels":{"team":"green","example.org/tier":""},"annotations":{"owner":"@example.org"}}`: `metadata.labels.team: "green" is not allowed; use one of red, blue; also ` +
			`metadata.annotations.owner: "@example.org" is not allowed; use a value like ?*@example.org`,
		`{"labels":{"team":"red","example.org/tier":"x"},"annotations":{"owner":"a\nb"}}`: `metadata.annotations.owner: "a?b" is not allowed; use a value like ?*@example.org`,
	} {
		v, err := p.Validate(request("Pod", metadata))
		if err != nil || v.Message != want || v.Allowed != (want == "") {
			t.Errorf("%s: %v, %v\ngot  %s\nwant %s", metadata, v.Allowed, err, v.Message, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	p := plugintest.New(t, manifest, wanted())
	_, object, err := p.Admit(request("Pod", `{"labels":{"team":"red"},"annotations":{"owner":"a@example.org"}}`))
	if err != nil {
		t.Fatal(err)
	}
	text, err := hostabi.AppendJSON(nil, object)
	want := `{"metadata":{"annotations":{"note":"a | b, *","owner":"a@example.org"},"labels":{"example.org/tier":"iron","team":"red"}}}`
	if err != nil || string(text) != want {
		t.Errorf("got %s, %v, want %s", text, err, want)
	}
	// An empty value is a value.
	v, err := p.Mutate(request("Pod", `{"labels":{"example.org/tier":""},"annotations":{"note":""}}`))
	if err != nil || len(v.Mutations) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	// What a client sends in place of maps is the API server's to refuse.
	if v, err := p.Validate(request("Pod", `{"labels":[1],"annotations":null,"ownerReferences":"x"}`)); err != nil || v.Allowed {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestOwned(t *testing.T) {
	c := wanted()
	owned := `{"ownerReferences":[{"kind":"X"},{"controller":true}]}`
	p := plugintest.New(t, manifest, c)
	if v, _, err := p.Admit(request("Pod", owned)); err != nil || !v.Allowed || len(v.Mutations) > 0 {
		t.Errorf("owned by a controller: %+v, %v", v, err)
	}
	if v, _, err := p.Admit(request("Pod", `{"ownerReferences":[{"kind":"X"},{"controller":false}]}`)); err != nil || v.Allowed {
		t.Errorf("owned by something else: %+v, %v", v, err)
	}
	c["skip_owned"] = false
	p = plugintest.New(t, manifest, c)
	if v, _, err := p.Admit(request("Pod", owned)); err != nil || v.Allowed {
		t.Errorf("owned, but not to be skipped: %+v, %v", v, err)
	}
}

func TestExempt(t *testing.T) {
	c := wanted()
	in := func(p *plugintest.Plugin, kind, name, metadata string, labels map[string]string) bool {
		req := request(kind, metadata)
		req.Name, req.NamespaceLabels = name, labels
		v, _, err := p.Admit(req)
		if err != nil {
			t.Error(err)
		}
		return v.Allowed && len(v.Mutations) == 0
	}
	p := plugintest.New(t, manifest, c)
	if !in(p, "Pod", "p", "{}", map[string]string{"kubernetes.io/metadata.name": "kube-system"}) {
		t.Error("a pod of kube-system is looked at")
	}
	for _, name := range []string{"default", "kube-system", "kube-public", "kube-node-lease"} {
		if !in(p, "Namespace", name, "{}", nil) {
			t.Errorf("namespace %s is looked at", name)
		}
	}
	c["exempt_namespaces"] = "free,!strict"
	p = plugintest.New(t, manifest, c)
	if !in(p, "Pod", "p", "{}", map[string]string{"free": ""}) || in(p, "Pod", "p", "{}", map[string]string{"free": "", "strict": ""}) {
		t.Error("the selector is not what counts for pods")
	}
	if !in(p, "Namespace", "n", `{"labels":{"free":""}}`, nil) || in(p, "Namespace", "n", `{"labels":{"strict":"","free":""}}`, nil) {
		t.Error("the selector is not what counts for namespaces")
	}
}

// match conditions count as true in tests: all three rules match.
func TestUpdates(t *testing.T) {
	p := plugintest.New(t, manifest, wanted())
	for user, allowed := range map[string]bool{
		"alice": false, "system:admin": false, "system:serviceaccount:shop:operator": false,
		"system:kube-controller-manager": true, "system:serviceaccount:kube-system:deployment-controller": true, "system:node:n1": true,
	} {
		req := request("Deployment", "{}")
		req.User = user
		if v, _, err := p.Admit(req); err != nil || v.Allowed {
			t.Errorf("%s creates: %+v, %v", user, v, err)
		}
		req.Operation = hostabi.OperationUpdate
		if v, _, err := p.Admit(req); err != nil || v.Allowed != allowed || allowed && len(v.Mutations) > 0 {
			t.Errorf("%s updates: %+v, %v", user, v, err)
		}
	}
	for _, subresource := range []string{"status", "scale"} {
		req := request("Deployment", "{}")
		req.Operation, req.Subresource = hostabi.OperationUpdate, subresource
		if v, _, err := p.Admit(req); err != nil || v.Entered {
			t.Errorf("%s: %+v, %v", subresource, v, err)
		}
	}
}

func TestConfig(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	if v, _, err := p.Admit(request("Pod", "{}")); err != nil || !v.Allowed || len(v.Mutations) > 0 {
		t.Errorf("without configuration: %+v, %v", v, err)
	}
	for _, tt := range []struct {
		key   string
		value any
		why   string
	}{
		{"kinds", []string{"Pod", "Pods"}, `config kinds[1]: "Pods" is unknown; use Namespace, Pod`},
		{"required_labels", map[string]string{"a b": "*"}, `config required_labels: "a b" is no key`},
		{"required_annotations", map[string]string{"it's/x": "*"}, "is no key"},
		{"default_labels", map[string]string{"": "x"}, `config default_labels: "" is no key`},
		{"default_labels", map[string]string{"a": "b c"}, `config default_labels: a: "b c" is no value of a label`},
		{"default_labels", map[string]string{"team": "green"}, `config default_labels: team: "green" is not what required_labels wants: one of red, blue`},
		{"exempt_namespaces", "a b", "config exempt_namespaces: label selector"},
	} {
		c := wanted()
		c[tt.key] = tt.value
		if _, err := plugintest.Start(manifest, c); err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s %v: got %v, want %q", tt.key, tt.value, err, tt.why)
		}
	}
}
