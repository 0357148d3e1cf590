//go:build e2e

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

const (
	enforce   = "baseline.cleat.dev/enforce=true"
	automount = "baseline.cleat.dev/automount=false"
)

// specOf is a pod's spec in YAML flow style.
func specOf(image, container, pod string) string {
	return fmt.Sprintf(`{containers: [{name: main, image: %q, command: [sleep, "1000000"]%s}], terminationGracePeriodSeconds: 1%s}`, image, container, pod)
}

func podWith(name, spec string) string {
	return fmt.Sprintf("apiVersion: v1\nkind: Pod\nmetadata: {name: %s}\nspec: %s\n", name, spec)
}

func deploymentWith(name, spec string) string {
	return fmt.Sprintf("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: %[1]s}\nspec:\n"+
		"  selector: {matchLabels: {app: %[1]s}}\n  template:\n    metadata: {labels: {app: %[1]s}}\n    spec: %[2]s\n", name, spec)
}

// testDenied wants the same refusal, with the name of the field, for a pod, for
// the pod of a Deployment and for a dry run, and none in a namespace without the label.
func testDenied(t *testing.T, c *cluster) {
	ns := c.namespace(t, "enforced", enforce)
	free := c.namespace(t, "unenforced")
	for _, tc := range []struct{ name, spec, field string }{
		{"privileged", specOf(image, ", securityContext: {privileged: true}", ""), "spec.containers[0].securityContext.privileged"},
		{"host-network", specOf(image, "", ", hostNetwork: true"), "spec.hostNetwork"},
		{"host-pid", specOf(image, "", ", hostPID: true"), "spec.hostPID"},
		{"host-ipc", specOf(image, "", ", hostIPC: true"), "spec.hostIPC"},
		{"no-tag", specOf("cleat.dev/busybox", "", ""), "spec.containers[0].image"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			for how, args := range map[string][]string{"pod": nil, "dry run": {"--dry-run=server"}} {
				create := append([]string{"kubectl", "create", "-n", ns, "-f", "-"}, args...)
				if _, err := c.Feed(podWith(tc.name, tc.spec), create...); err == nil || !strings.Contains(err.Error(), tc.field) {
					t.Errorf("%s: got %v, want a refusal that names %s", how, err, tc.field)
				}
			}
			if _, err := c.Feed(podWith(tc.name, tc.spec), "kubectl", "create", "-n", free, "-f", "-", "--dry-run=server"); err != nil {
				t.Errorf("in a namespace without the label: %v", err)
			}
			c.apply(t, ns, deploymentWith(tc.name, tc.spec))
			eventuallyPrints(t, c.Machine, podPatience, tc.field, "kubectl", "get", "events", "-n", ns,
				"--field-selector", "reason=FailedCreate", "-o",
				`jsonpath={range .items[*]}{.involvedObject.name} {.message}{"\n"}{end}`)
			if pods := c.kubectl(t, "get", "pods", "-n", ns, "-l", "app="+tc.name, "-o", "name"); pods != "" {
				t.Errorf("there are pods nevertheless: %s", pods)
			}
		})
	}
	t.Run("a decent pod", func(t *testing.T) {
		c.apply(t, ns, podWith("decent", specOf(image, "", "")))
		c.awaitPod(t, ns, "decent")
	})
}

// testMutated wants the service-account token taken away where the label asks for
// it, whichever way the pod comes.
func testMutated(t *testing.T, c *cluster) {
	const field = "jsonpath={.spec.automountServiceAccountToken} {.spec.containers[0].volumeMounts}"
	ns := c.namespace(t, "tokenless", automount)
	spec := specOf(image, "", "")
	c.apply(t, ns, podWith("alone", spec))
	if got := c.kubectl(t, "get", "pod", "alone", "-n", ns, "-o", field); got != "false " {
		t.Errorf("a pod: token and mounts %q, want false and none", got)
	}
	got, err := c.Feed(podWith("never", spec), "kubectl", "create", "-n", ns, "-f", "-", "--dry-run=server", "-o", field)
	if err != nil || got != "false " {
		t.Errorf("a dry run: token and mounts %q, %v, want false and none", got, err)
	}
	c.apply(t, ns, deploymentWith("many", spec))
	eventuallyPrints(t, c.Machine, podPatience, "false", "kubectl", "get", "pods", "-n", ns, "-l", "app=many", "-o",
		"jsonpath={.items[0].spec.automountServiceAccountToken}")
	c.awaitPod(t, ns, "alone")
	if got := c.kubectl(t, "get", "pod", "shell", "-n", "web", "-o", field); !strings.Contains(got, "serviceaccount") {
		t.Errorf("in a namespace without the label: %q, want a token", got)
	}
}
