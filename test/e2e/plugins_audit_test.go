//go:build e2e

package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	auditPolicy = "/etc/cleat/audit-policy.yaml"
	auditLog    = "/var/log/audit.log"
)

// auditArgs returns the arguments of a server that audits the creation of pods.
func auditArgs(t *testing.T, n *node) []string {
	t.Helper()
	n.WriteFile(t, auditPolicy, `apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, verbs: [create], resources: [{group: "", resources: [pods]}]}
- {level: None}
`)
	return []string{"--kube-apiserver-arg", "audit-policy-file=" + auditPolicy, "--kube-apiserver-arg", "audit-log-path=" + auditLog}
}

// auditEvent is what a test looks at in an event of the audit log.
type auditEvent struct {
	AuditID        string                           `json:"auditID"`
	ObjectRef      struct{ Namespace, Name string } `json:"objectRef"`
	ResponseStatus struct{ Code int }               `json:"responseStatus"`
	Annotations    map[string]string                `json:"annotations"`
}

// fromPlugin returns the annotations that are a plugin's, without its name.
func (e auditEvent) fromPlugin(plugin string) map[string]string {
	own := map[string]string{}
	for key, value := range e.Annotations {
		if name, ok := strings.CutPrefix(key, plugin+".cleat.dev/"); ok {
			own[name] = value
		}
	}
	return own
}

// audited returns the newest event of a pod's creation, once that is in the log.
func audited(t *testing.T, n *node, namespace, pod string) auditEvent {
	t.Helper()
	var found auditEvent
	lab.Eventually(t, podPatience, "the audit event of pod "+pod, func() error {
		text, err := os.ReadFile(n.Path(auditLog))
		if err != nil {
			return err
		}
		ok := false
		// What follows the last line break is still being written.
		lines := strings.Split(string(text), "\n")
		for _, line := range lines[:len(lines)-1] {
			var e auditEvent
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				return fmt.Errorf("%s: %w", line, err)
			}
			if e.ObjectRef.Namespace == namespace && e.ObjectRef.Name == pod {
				found, ok = e, true
			}
		}
		if !ok {
			return fmt.Errorf("no event of pod %s among %d", pod, len(lines)-1)
		}
		return nil
	})
	return found
}

// wantAnnotations wants exactly these annotations of admission-baseline in the
// event of a pod's creation, and that status, and returns the event.
func wantAnnotations(t *testing.T, n *node, namespace, pod string, code int, want map[string]string) auditEvent {
	t.Helper()
	e := audited(t, n, namespace, pod)
	t.Logf("audit event of %s/%s: status %d, annotations %v", namespace, pod, e.ResponseStatus.Code, e.Annotations)
	if got := e.fromPlugin("admission-baseline"); !maps.Equal(got, want) || e.ResponseStatus.Code != code {
		t.Errorf("the audit event of pod %s has status %d and of the plugin %v, want %d and %v", pod, e.ResponseStatus.Code, got, code, want)
	}
	return e
}

// testPluginAudit wants what a plugin decided in the audit log: a denial, a
// mutation, and nothing where it had nothing to say.
func testPluginAudit(t *testing.T, n *node) {
	if err := try(n, "enforced", "audited-denied", true); !refused(err) {
		t.Errorf("got %v, want a refusal", err)
	}
	wantAnnotations(t, n, "enforced", "audited-denied", 403, map[string]string{"validate": "denied"})

	if err := try(n, "enforced", "audited-decent", false); err != nil {
		t.Error(err)
	}
	wantAnnotations(t, n, "enforced", "audited-decent", 201, nil)

	ns := n.namespace(t, "tokenless", automount)
	lab.Eventually(t, podPatience, "a pod without token", func() error {
		out, err := n.Feed(podWith("audited-mutated", specOf(image, "", "")), "kubectl", "create", "-n", ns, "-f", "-", "--dry-run=server",
			"-o", "jsonpath={.spec.automountServiceAccountToken}")
		if err == nil && out != "false" {
			err = fmt.Errorf("automountServiceAccountToken is %q", out)
		}
		return err
	})
	wantAnnotations(t, n, ns, "audited-mutated", 201, map[string]string{"mutate": "mutated"})
}

// try asks the server to create a pod, decent or privileged, as a dry run.
func try(n *node, namespace, name string, privileged bool) error {
	container := ""
	if privileged {
		container = ", securityContext: {privileged: true}"
	}
	_, err := n.Feed(podWith(name, specOf(image, container, "")), "kubectl", "create", "-n", namespace, "-f", "-", "--dry-run=server")
	return err
}

// refused tells whether an error is the refusal of a privileged pod by
// admission-baseline.
func refused(err error) bool {
	return err != nil && strings.Contains(err.Error(), "plugin admission-baseline: spec.containers[0].securityContext.privileged")
}
