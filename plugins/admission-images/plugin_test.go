package main

import (
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

const manifest = "manifest.json"

func TestReadme(t *testing.T) { plugintest.Readme(t, "README.md", manifest) }

func request(object string, labels map[string]string) plugintest.Request {
	return plugintest.Request{
		ID: "1", Operation: hostabi.OperationCreate, Version: "v1", Kind: "Pod", Resource: "pods",
		Namespace: "ns", NamespaceLabels: labels, Object: object,
	}
}

const everywhere = `{"spec":{
	"initContainers":[{"image":"i"}],"containers":[{"image":"a"},{},{"image":""},{"image":"b:1"}],
	"ephemeralContainers":[{"image":"e"}],"volumes":[{"emptyDir":{}},{"image":{"reference":"v"}},{"image":{}}]}}`

func TestWhereImagesAre(t *testing.T) {
	p := plugintest.New(t, manifest, map[string]any{
		"registries": []string{"other.example"}, "rewrites": map[string]string{"docker.io": "mirror.example"},
	})
	for _, tt := range []struct {
		operation   hostabi.Operation
		subresource string
		rewritten   []string // places
	}{
		{hostabi.OperationCreate, "", []string{
			"spec.initContainers[0].image", "spec.containers[0].image", "spec.containers[3].image",
			"spec.ephemeralContainers[0].image", "spec.volumes[1].image.reference"}},
		{hostabi.OperationUpdate, "", []string{"spec.initContainers[0].image", "spec.containers[0].image", "spec.containers[3].image"}},
		{hostabi.OperationUpdate, "ephemeralcontainers", []string{"spec.ephemeralContainers[0].image"}},
		{hostabi.OperationUpdate, "status", nil},
		{hostabi.OperationDelete, "", nil},
	} {
		req := request(everywhere, nil)
		req.Operation, req.Subresource = tt.operation, tt.subresource
		v, err := p.Mutate(req)
		var places []string
		for _, m := range v.Mutations {
			places = append(places, m.Place(req.Object))
		}
		if err != nil || !v.Allowed || !reflect.DeepEqual(places, tt.rewritten) {
			t.Errorf("%s %s: rewrites %q, %v, want %q", tt.operation, tt.subresource, places, err, tt.rewritten)
		}
		v, err = p.Validate(req)
		var refused []string
		for reason := range strings.SplitSeq(v.Message, "; also ") {
			if place, _, found := strings.Cut(reason, ": "); found {
				refused = append(refused, place)
			}
		}
		if err != nil || !reflect.DeepEqual(refused, tt.rewritten) {
			t.Errorf("%s %s: refuses %q, %v, want %q", tt.operation, tt.subresource, refused, err, tt.rewritten)
		}
	}
}

func pod(images ...string) string {
	var containers []string
	for _, image := range images {
		containers = append(containers, fmt.Sprintf(`{"image":%q}`, image))
	}
	return `{"spec":{"containers":[` + strings.Join(containers, ",") + `]}}`
}

func TestRewrites(t *testing.T) {
	p := plugintest.New(t, manifest, map[string]any{"rewrites": map[string]string{
		"docker.io": "mirror.example:5000/hub", "docker.io/library": "mirror.example:5000/official", "docker.io/library/nginx": "nginx.example/nginx",
		"Other.example/team": "Mirror.example/team",
	}})
	for image, want := range map[string]string{
		"nginx":                            "nginx.example/nginx",
		"nginx:1.27":                       "nginx.example/nginx:1.27",
		"redis:7@" + digest:                "mirror.example:5000/official/redis:7@" + digest,
		"docker.io/library/redis":          "mirror.example:5000/official/redis",
		"grafana/loki":                     "mirror.example:5000/hub/grafana/loki",
		"other.example/team":               "mirror.example/team",
		"other.example/team/a/b@" + digest: "mirror.example/team/a/b@" + digest,
		"other.example/other":              "",
		"mirror.example:5000/x":            "",
		"no such image":                    "",
	} {
		v, object, err := p.Admit(request(pod("third.example/x", image), nil))
		if err != nil || !v.Allowed {
			t.Errorf("%s: %+v, %v", image, v, err)
			continue
		}
		if want == "" {
			if len(v.Mutations) != 0 {
				t.Errorf("%s becomes %v", image, v.Mutations)
			}
			continue
		}
		if len(v.Mutations) != 1 || v.Mutations[0].Index != 1 || v.Mutations[0].Value != want {
			t.Errorf("%s becomes %v, want %s", image, v.Mutations, want)
		}
		text, err := hostabi.AppendJSON(nil, object)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := p.Mutate(request(string(text), nil)); err != nil || len(again.Mutations) > 0 {
			t.Errorf("%s is rewritten again: %+v, %v", want, again, err)
		}
	}
}

func TestMessages(t *testing.T) {
	p := plugintest.New(t, manifest, map[string]any{"registries": []string{"docker.io/library", "*.example.org"}, "require_digest": true})
	for image, want := range map[string]string{
		"nginx@" + digest:           "",
		"a.example.org/x@" + digest: "",
		"nginx":                     `"nginx" has no digest; append @sha256:<digest>`,
		"other.example/a@" + digest: `"other.example/a@` + digest + `" is other.example/a, which is not allowed; use one of docker.io/library, *.example.org`,
		"loki/loki":                 `"loki/loki" is docker.io/loki/loki, which is not allowed; use one of docker.io/library, *.example.org; it also has no digest; append @sha256:<digest>`,
		"nginx:":                    `"nginx:" is no image reference; write registry/repository:tag or registry/repository@sha256:digest`,
		digest:                      `"` + digest + `" is no image reference; write registry/repository:tag or registry/repository@sha256:digest`,
	} {
		if want != "" {
			want = "spec.containers[0].image: " + want
		}
		v, err := p.Validate(request(pod(image), nil))
		if err != nil || v.Message != want || v.Allowed != (want == "") {
			t.Errorf("%s: %v, %v\ngot  %s\nwant %s", image, v.Allowed, err, v.Message, want)
		}
	}
}

func TestHostileNames(t *testing.T) {
	p := plugintest.New(t, manifest, map[string]any{"registries": []string{"docker.io"}})
	for _, image := range []string{`a\nb`, `\u0000`, `\u007f/x`, strings.Repeat("x", 5000), `:`, `@`, `a\"b`, `q.example/` + strings.Repeat("y", 230)} {
		v, err := p.Validate(request(`{"spec":{"containers":[{"image":"`+image+`"}]}}`, nil))
		if err != nil || v.Allowed {
			t.Errorf("%.20q: allowed %v, %v", image, v.Allowed, err)
		}
		if strings.ContainsFunc(v.Message, func(r rune) bool { return r < 0x20 || r == 0x7f }) || len(v.Message) > 500 {
			t.Errorf("%.20q: message %q", image, v.Message)
		}
	}
	v, err := p.Validate(request(pod(strings.Split(strings.Repeat("other.example/x ", 500)+"a", " ")...), nil))
	if err != nil || !strings.HasSuffix(v.Message, "; and 492 more") || len(v.Message) > 4096 {
		t.Errorf("many: %v, %d bytes: %.200s", err, len(v.Message), v.Message)
	}
	for _, object := range []string{`{}`, `{"spec":{"containers":{"image":"a"},"volumes":"v"}}`, `{"spec":{"containers":[{"image":1},[],null]}}`} {
		if v, err := p.Validate(request(object, nil)); err != nil || !v.Allowed {
			t.Errorf("%s: %+v, %v", object, v, err)
		}
	}
}

func TestExemptNamespaces(t *testing.T) {
	config := map[string]any{"registries": []string{"other.example"}, "rewrites": map[string]string{"docker.io": "other.example/hub"}}
	leftAlone := func(p *plugintest.Plugin, labels map[string]string) bool {
		v, _, err := p.Admit(request(pod("nginx", "third.example/a"), labels))
		if err != nil || v.Allowed && len(v.Mutations) > 0 {
			t.Errorf("%v: %+v, %v", labels, v, err)
		}
		return v.Allowed
	}
	name := func(ns string) map[string]string { return map[string]string{"kubernetes.io/metadata.name": ns} }
	p := plugintest.New(t, manifest, config)
	if !leftAlone(p, name("kube-system")) || leftAlone(p, name("default")) || leftAlone(p, nil) {
		t.Error("the default does not exempt kube-system alone")
	}
	config["exempt_namespaces"] = "images=any,kubernetes.io/metadata.name notin (default)"
	p = plugintest.New(t, manifest, config)
	if leftAlone(p, name("kube-system")) || !leftAlone(p, map[string]string{"images": "any"}) ||
		leftAlone(p, map[string]string{"images": "any", "kubernetes.io/metadata.name": "default"}) {
		t.Error("the selector is not what counts")
	}
	config["exempt_namespaces"] = ""
	if p = plugintest.New(t, manifest, config); leftAlone(p, name("kube-system")) {
		t.Error("an empty selector exempts")
	}
}

func TestConfig(t *testing.T) {
	p := plugintest.New(t, manifest, nil)
	if v, _, err := p.Admit(request(everywhere, nil)); err != nil || !v.Allowed || len(v.Mutations) > 0 {
		t.Errorf("without configuration: %+v, %v", v, err)
	}
	for _, tt := range []struct {
		config map[string]any
		why    string
	}{
		{map[string]any{"registries": []string{"docker.io", "library"}}, `config registries[1]: "library" does not begin with a registry`},
		{map[string]any{"registries": []string{"*"}}, "does not begin with a registry"},
		{map[string]any{"registries": []string{""}}, "does not begin with a registry"},
		{map[string]any{"registries": []string{"https://a.b"}}, "does not begin with a registry"},
		{map[string]any{"registries": []string{"a.b/"}}, "is no repository"},
		{map[string]any{"registries": []string{"a.b/c:1"}}, "is no repository"},
		{map[string]any{"registries": []string{"a.b/*"}}, "is no repository"},
		{map[string]any{"registries": []string{"index.docker.io"}}, "write docker.io"},
		{map[string]any{"rewrites": map[string]string{"*.a.b": "c.d"}}, "does not begin with a registry"},
		{map[string]any{"rewrites": map[string]string{"a.b": "c"}}, "does not begin with a registry"},
		{map[string]any{"rewrites": map[string]string{"docker.io": "docker.io/x"}}, "docker.io goes to docker.io/x, which docker.io rewrites again"},
		{map[string]any{"rewrites": map[string]string{"a.b": "c.d", "C.d": "e.f"}}, "a.b goes to c.d, which c.d rewrites again"},
		{map[string]any{"rewrites": map[string]string{"a.b": "c.d", "c.d/x": "e.f"}}, "a.b goes to c.d, which c.d/x rewrites again"},
		{map[string]any{"rewrites": map[string]string{"a.b": "c.d/" + strings.Repeat("x", 240)}}, "is too long"},
		{map[string]any{"exempt_namespaces": "a in b"}, "config exempt_namespaces: label selector"},
		{map[string]any{"mirrors": "x"}, `"mirrors" is unknown`},
	} {
		_, err := plugintest.Start(manifest, tt.config)
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%v: got %v, want %q", tt.config, err, tt.why)
		}
	}
}
