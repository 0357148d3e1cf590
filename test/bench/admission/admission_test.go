//go:build bench

package admission

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	tool       = "/var/lib/cleat/bench"
	lockPath   = "/etc/cleat/plugins.lock"
	pluginsDir = "/var/lib/cleat/plugins"
	rounds     = 5
	webhook    = "127.0.0.1:9443"
	label      = "bench.cleat.dev/policy"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && filepath.Base(os.Args[0]) == filepath.Base(tool) {
		if err := asTool(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main()
	os.Exit(m.Run())
}

// languages are those that the golden guest is built in.
func languages(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../../build/golden/*/golden-admission.wasm")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden guests, %v: run make golden first", err)
	}
	var names []string
	for _, f := range files {
		names = append(names, filepath.Base(filepath.Dir(f)))
	}
	return names
}

// TestAdmission prints the tables of docs/reference/benchmarks.md.
func TestAdmission(t *testing.T) {
	l := lab.New(t)
	l.Install("../../../bin/cleat", "cleat", "kubectl")
	m := l.Machine("bench")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m.CopyFile(t, self, tool, 0o755)
	policies := []string{"none"}
	for _, language := range languages(t) {
		policies = append(policies, language)
		putGuest(t, m, language)
	}
	policies = append(policies, "cel", "webhook")
	m.Must(t, "sh", "-c", "mkdir -p /etc/cleat && cleat plugin list -o lock >"+lockPath+" && cleat plugin lock --accept --plugins-lock "+lockPath+" "+pluginsDir)
	m.Start(t, "cleat", "cleat", "server", "--disable-agent", "--plugins-lock", lockPath)
	lab.Eventually(t, 4*time.Minute, "the API server", func() error {
		_, err := m.Run("kubectl", "get", "namespace", "kube-system", "default")
		return err
	})
	prepare(t, m, policies)
	for _, policy := range policies[1:] {
		lab.Eventually(t, time.Minute, policy+" refuses", func() error { return refuses(m, policy) })
	}

	cells := map[string][]outcome{}
	for round := range rounds {
		for _, containers := range []int{3, 20} {
			for _, clients := range []int{1, 8, 64} {
				order := slices.Clone(policies)
				if round%2 == 1 {
					slices.Reverse(order)
				}
				for _, policy := range order {
					key := cell(policy, containers, clients)
					cells[key] = append(cells[key], measure(t, m, policy, containers, clients))
				}
			}
		}
	}
	report := render(policies, cells)
	t.Logf("\n%s", report)
	if err := os.WriteFile("../../../build/bench-plugins.md", []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
}

func cell(policy string, containers, clients int) string {
	return fmt.Sprintf("%s/%d/%d", policy, containers, clients)
}

// putGuest puts a golden guest into the plugins directory, under a name of its
// own and asked only about namespaces that carry its label.
func putGuest(t *testing.T, m *lab.Machine, language string) {
	t.Helper()
	wasm, err := os.ReadFile("../../../build/golden/" + language + "/golden-admission.wasm")
	if err != nil {
		t.Fatal(err)
	}
	file, err := wasmfile.Parse(wasm)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := file.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	manifest.Name = "golden-" + language
	manifest.Limits.DeadlineMS = 2000
	for i := range manifest.Admission.Rules {
		manifest.Admission.Rules[i].NamespaceSelector = &hostabi.LabelSelector{MatchLabels: map[string]string{label: language}}
	}
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	if wasm, err = wasmfile.SetCustom(wasm, hostabi.ManifestSection, text); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), manifest.Name+".wasm")
	if err := os.WriteFile(path, wasm, 0o644); err != nil {
		t.Fatal(err)
	}
	m.CopyFile(t, path, pluginsDir+"/"+manifest.Name+".wasm", 0o644)
}

// prepare makes a namespace for each policy, the policies themselves, and starts
// the webhook.
func prepare(t *testing.T, m *lab.Machine, policies []string) {
	t.Helper()
	var all strings.Builder
	for _, p := range policies {
		fmt.Fprintf(&all, "apiVersion: v1\nkind: Namespace\nmetadata: {name: bench-%s, labels: {%s: %s}}\n---\n", p, label, p)
	}
	certificate := makeCertificate(t, m)
	fmt.Fprintf(&all, `apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicy
metadata: {name: images}
spec:
  failurePolicy: Fail
  matchConstraints:
    namespaceSelector: {matchLabels: {%[1]s: cel}}
    resourceRules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]
  validations:
  - expression: >-
      object.spec.containers.all(c, c.image.startsWith('registry.local/') &&
      c.image.substring(c.image.lastIndexOf('/')).contains(':') && !c.image.endsWith(':latest')) &&
      (!has(object.spec.initContainers) || object.spec.initContainers.all(c, c.image.startsWith('registry.local/') &&
      c.image.substring(c.image.lastIndexOf('/')).contains(':') && !c.image.endsWith(':latest')))
    message: an image is not allowed
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: images}
spec: {policyName: images, validationActions: [Deny]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: images}
webhooks:
- name: images.bench.cleat.dev
  admissionReviewVersions: [v1]
  sideEffects: None
  failurePolicy: Fail
  namespaceSelector: {matchLabels: {%[1]s: webhook}}
  clientConfig: {url: "https://%[2]s/", caBundle: %[3]s}
  rules: [{apiGroups: [""], apiVersions: [v1], operations: [CREATE, UPDATE], resources: [pods]}]
`, label, webhook, certificate)
	m.Start(t, "webhook", tool, "webhook", webhook, "/var/lib/cleat/hook.crt", "/var/lib/cleat/hook.key")
	if _, err := m.Feed(all.String(), "kubectl", "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	for _, p := range policies {
		lab.Eventually(t, time.Minute, "the service account of bench-"+p, func() error {
			_, err := m.Run("kubectl", "get", "serviceaccount", "default", "-n", "bench-"+p)
			return err
		})
	}
}

// makeCertificate writes a certificate for the webhook and returns it in base64.
func makeCertificate(t *testing.T, m *lab.Machine) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "webhook"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	m.WriteFile(t, "/var/lib/cleat/hook.crt", string(certificate))
	m.WriteFile(t, "/var/lib/cleat/hook.key", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER})))
	return base64.StdEncoding.EncodeToString(certificate)
}

// refuses tells whether the policy is in force: a pod with a wrong image must be refused.
func refuses(m *lab.Machine, policy string) error {
	wrong := `{"apiVersion":"v1","kind":"Pod","metadata":{"name":"wrong"},"spec":{"containers":[{"name":"c","image":"elsewhere/app:1"}]}}`
	_, err := m.Feed(wrong, "kubectl", "create", "-n", "bench-"+policy, "--dry-run=server", "-f", "-")
	if err == nil || !strings.Contains(err.Error(), "allowed") {
		return fmt.Errorf("got %v", err)
	}
	return nil
}

func measure(t *testing.T, m *lab.Machine, policy string, containers, clients int) outcome {
	t.Helper()
	text, err := json.Marshal(job{Kubeconfig: "/etc/cleat/cleat.yaml", Namespace: "bench-" + policy, Containers: containers,
		Clients: clients, Requests: 300, Warm: 2 * clients})
	if err != nil {
		t.Fatal(err)
	}
	var result outcome
	if err := json.Unmarshal([]byte(m.Must(t, tool, "load", string(text))), &result); err != nil {
		t.Fatal(err)
	}
	return result
}

// median of what read returns for each outcome.
func median(all []outcome, read func(outcome) float64) float64 {
	var values []float64
	for _, o := range all {
		values = append(values, read(o))
	}
	slices.Sort(values)
	return values[len(values)/2]
}

// inStep is the mean time in the policy's own step of the admission chain, µs.
func inStep(policy string) func(outcome) float64 {
	name := "CleatPlugins"
	switch policy {
	case "cel":
		name = "ValidatingAdmissionPolicy"
	case "webhook":
		name = "ValidatingAdmissionWebhook"
	}
	return func(o outcome) float64 { return 1e6 * o.Metrics[name].Seconds / max(o.Metrics[name].Count, 1) }
}

func render(policies []string, cells map[string][]outcome) string {
	var b strings.Builder
	for _, containers := range []int{3, 20} {
		fmt.Fprintf(&b, "A pod of %d containers, medians of %d interleaved rounds of 300 requests:\n\n", containers, rounds)
		b.WriteString("| policy | step, mean, 1 client | p50 1 | p99 1 | p50 8 | p99 8 | p50 64 | p99 64 | req/s 1 | req/s 8 | req/s 64 |\n|---|---|---|---|---|---|---|---|---|---|---|\n")
		for _, p := range policies {
			fmt.Fprintf(&b, "| %s | %.1f µs |", p, median(cells[cell(p, containers, 1)], inStep(p)))
			for _, clients := range []int{1, 8, 64} {
				all := cells[cell(p, containers, clients)]
				fmt.Fprintf(&b, " %.2f ms | %.2f ms |", 1e-6*median(all, func(o outcome) float64 { return float64(o.P50) }),
					1e-6*median(all, func(o outcome) float64 { return float64(o.P99) }))
			}
			for _, clients := range []int{1, 8, 64} {
				fmt.Fprintf(&b, " %.0f |", median(cells[cell(p, containers, clients)], func(o outcome) float64 { return o.PerSecond }))
			}
			b.WriteString("\n")
		}
		b.WriteString("\n")
	}
	return b.String()
}
