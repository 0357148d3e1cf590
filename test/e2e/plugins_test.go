//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	lockPath   = "/etc/cleat/plugins.lock"
	pluginsDir = "/var/lib/cleat/plugins"
)

// TestPlugins takes a plugin through its life on a running server: seen in the
// API, captured and replayed, told in audit log and traces, compared as a shadow,
// upgraded under load, rolled back, and switched off and on.
func TestPlugins(t *testing.T) {
	t.Parallel()
	n := newNode(t, newLab(t), "n1", "--plugins-lock", lockPath, "--plugins-capture", "decisions")
	traced, tracing := collectTraces(t, n)
	n.args = append(append(n.args, auditArgs(t, n)...), tracing...)
	n.Must(t, "sh", "-c", "mkdir -p /etc/cleat && cleat plugin list -o lock >"+lockPath)
	t.Logf("Ready after %.1f s", n.serve(t))
	n.Must(t, "kubectl", "create", "namespace", "enforced")
	n.Must(t, "kubectl", "label", "namespace", "enforced", enforce)
	privileged := podWith("privileged", specOf(image, ", securityContext: {privileged: true}", ""))
	denied := func() error {
		if _, err := n.Feed(privileged, "kubectl", "create", "-n", "enforced", "-f", "-", "--dry-run=server"); err == nil || !strings.Contains(err.Error(), "privileged") {
			return fmt.Errorf("got %v, want a refusal", err)
		}
		return nil
	}
	lab.Eventually(t, podPatience, "the refusal", denied)

	t.Run("in the API", func(t *testing.T) {
		eventuallyPrints(t, n.Machine, podPatience, "admission-baseline Healthy", "kubectl", "get", "plugins", "-o",
			`jsonpath={range .items[*]}{.metadata.name} {.status.servers[0].health} {.status.servers[0].denies}{"\n"}{end}`)
		table := n.Must(t, "kubectl", "get", "plugins")
		for _, word := range []string{"POINTS", "P99", "datastore-kine", "deployer-manifest", "admission"} {
			if !strings.Contains(table, word) {
				t.Errorf("kubectl get plugins lacks %s:\n%s", word, table)
			}
		}
		metrics := n.Must(t, "kubectl", "get", "--raw", "/metrics")
		for _, line := range []string{`cleat_plugin_denies_total{plugin="admission-baseline",shadow="false",version="0.1.0"} `, `cleat_plugin_call_duration_seconds_bucket{plugin="admission-baseline"`} {
			if !strings.Contains(metrics, line) {
				t.Errorf("/metrics lacks %s", line)
			}
		}
	})

	t.Run("replay", func(t *testing.T) {
		id := regexp.MustCompile(`admission-baseline-[0-9a-f]{12}`).FindString(n.Must(t, "ls", pluginsDir+"/captures"))
		if id == "" {
			t.Fatal("nothing was captured")
		}
		if out := n.Must(t, "cleat", "plugin", "replay", id, "--plugins-lock", lockPath); !strings.Contains(out, "same, byte for byte") || !strings.Contains(out, "privileged") {
			t.Errorf("replay printed:\n%s", out)
		}
	})

	t.Run("audit", func(t *testing.T) { testPluginAudit(t, n) })
	t.Run("traces", func(t *testing.T) { testPluginTraces(t, n, traced) })

	t.Run("shadow", func(t *testing.T) {
		putVersion(t, n, "0.2.0-rc.1", "shadow.wasm")
		n.Must(t, "sh", "-c", "cleat plugin lock --shadow --accept --plugins-lock "+lockPath+" "+pluginsDir+"/shadow.wasm && cleat plugin reload")
		if err := denied(); err != nil {
			t.Error(err)
		}
		eventuallyPrints(t, n.Machine, podPatience, "0.2.0-rc.1 0", "kubectl", "get", "plugin", "admission-baseline", "-o",
			"jsonpath={.status.servers[0].shadow.version} {.status.servers[0].shadow.differed}")
	})

	t.Run("upgrade under load", func(t *testing.T) {
		putVersion(t, n, "0.2.0", "admission-baseline.wasm")
		decent := podWith("decent", specOf(image, "", ""))
		n.WriteFile(t, "/etc/cleat/decent.yaml", decent)
		load := n.Start(t, "load", "sh", "-c", "while [ ! -e /etc/cleat/enough ]; do kubectl create -n enforced -f /etc/cleat/decent.yaml --dry-run=server >/dev/null 2>>/etc/cleat/failures; echo >>/etc/cleat/count; done")
		for range 3 {
			n.Must(t, "sh", "-c", "cleat plugin lock --plugins-lock "+lockPath+" "+pluginsDir+"/admission-baseline.wasm && cleat plugin reload")
			putVersion(t, n, "0.2.1", "admission-baseline.wasm")
		}
		n.Must(t, "touch", "/etc/cleat/enough")
		load.Wait(t, podPatience)
		if out := n.Must(t, "sh", "-c", "cat /etc/cleat/failures; wc -l </etc/cleat/count"); strings.ContainsAny(out, "EF") {
			t.Errorf("requests failed during reloads:\n%s", out)
		} else {
			t.Logf("requests during three reloads, none failed: %s", out)
		}
		if err := denied(); err != nil {
			t.Error(err)
		}
		eventuallyPrints(t, n.Machine, podPatience, "0.2.1", "kubectl", "get", "plugin", "admission-baseline", "-o", "jsonpath={.status.servers[0].version}")
	})

	t.Run("roll back", func(t *testing.T) { testPluginRollBack(t, n, traced, "0.2.1") })

	t.Run("charts and kustomizations", func(t *testing.T) {
		for file, content := range map[string]string{
			"greeting/Chart.yaml":            "apiVersion: v2\nname: greeting\nversion: 1.0.0\n",
			"greeting/values.yaml":           "words: hello\n",
			"greeting/templates/config.yaml": "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}-words}\ndata: {words: {{ .Values.words | quote }}}\n",
			"greeting.values.yaml":           "words: good day\n",
			"overlay/kustomization.yaml":     "namePrefix: my-\nnamespace: default\nresources: [base.yaml]\n",
			"overlay/base.yaml":              "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: base}\ndata: {a: b}\n",
		} {
			n.WriteFile(t, manifests+file, content)
		}
		eventuallyPrints(t, n.Machine, podPatience, "good day", "kubectl", "get", "configmap", "greeting-words", "-o", "jsonpath={.data.words}")
		eventuallyPrints(t, n.Machine, podPatience, "b", "kubectl", "get", "configmap", "my-base", "-o", "jsonpath={.data.a}")
		n.Must(t, "rm", "-r", manifests+"greeting", manifests+"greeting.values.yaml", manifests+"overlay")
		lab.Eventually(t, podPatience, "the objects to go", func() error {
			if out, err := n.Run("kubectl", "get", "configmap", "-o", "name"); err != nil || strings.Contains(out, "greeting-words") || strings.Contains(out, "my-base") {
				return fmt.Errorf("%s%v", out, err)
			}
			return nil
		})
	})

	t.Run("disable and enable", func(t *testing.T) {
		n.Must(t, "cleat", "plugin", "disable", "admission-baseline", "--plugins-lock", lockPath)
		if err := denied(); err == nil {
			t.Error("a disabled plugin still decides")
		}
		n.Must(t, "cleat", "plugin", "enable", "admission-baseline", "--plugins-lock", lockPath)
		if err := denied(); err != nil {
			t.Error(err)
		}
	})

	t.Run("a lock that is wrong changes nothing", func(t *testing.T) {
		n.Must(t, "sh", "-c", "cp "+lockPath+" /etc/cleat/good.lock && sed -i 's/^version = .0.2.1.$/version = \"9.9.9\"/' "+lockPath)
		if _, err := n.Run("cleat", "plugin", "reload"); err == nil || !strings.Contains(err.Error(), "version") || !strings.Contains(err.Error(), "9.9.9") {
			t.Errorf("got %v, want the field that differs", err)
		}
		if err := denied(); err != nil {
			t.Error(err)
		}
		n.Must(t, "cp", "/etc/cleat/good.lock", lockPath)
	})
}

// baseline returns the bundle's admission-baseline.
func baseline(t *testing.T) []byte {
	t.Helper()
	wasm, err := os.ReadFile(artefact(t, "CLEAT_BASELINE", "build/bundle/plugins/admission-baseline.wasm"))
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// baselineManifest returns the manifest of the bundle's admission-baseline.
func baselineManifest(t *testing.T) hostabi.Manifest {
	t.Helper()
	file, err := wasmfile.Parse(baseline(t))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := file.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	return manifest
}

// putVersion puts the bundle's admission-baseline into the plugins directory
// under another version.
func putVersion(t *testing.T, n *node, version, name string) {
	t.Helper()
	manifest := baselineManifest(t)
	manifest.Version = version
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := wasmfile.SetCustom(baseline(t), hostabi.ManifestSection, text)
	if err != nil {
		t.Fatal(err)
	}
	putPlugin(t, n, wasm, name)
}

// putPlugin puts a file into the plugins directory.
func putPlugin(t *testing.T, n *node, wasm []byte, name string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, wasm, 0o644); err != nil {
		t.Fatal(err)
	}
	n.CopyFile(t, path, pluginsDir+"/"+name, 0o644)
}
