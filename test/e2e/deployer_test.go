//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const manifests = "/var/lib/cleat/server/manifests/"

// appliedWithin is how long a change to a manifest may take to arrive. It should
// be one second, and the log says how long it was; the rest is for the other work
// of the machine, and for kubectl, with which the tests look.
const appliedWithin = time.Minute

func configMap(name, value string) string {
	return fmt.Sprintf("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s, namespace: default}\ndata: {value: %q}\n", name, value)
}

// awaitValue waits for a ConfigMap's value; "" waits until there is none.
func awaitValue(t *testing.T, n *node, name, want string) {
	t.Helper()
	begun := time.Now()
	lab.Eventually(t, appliedWithin, fmt.Sprintf("config map %s is %q", name, want), func() error {
		got, err := n.Run("kubectl", "get", "configmap", name, "--ignore-not-found", "-o", "jsonpath={.data.value}")
		if err == nil && got != want {
			err = fmt.Errorf("is %q", got)
		}
		return err
	})
	t.Logf("config map %s is %q after %.1f s", name, want, time.Since(begun).Seconds())
}

func testManifests(t *testing.T, c *cluster) {
	// No such file is looked at before the one beside it says that it is not wanted.
	c.WriteFile(t, manifests+"e2e-skipped.yaml.skip", "")
	c.WriteFile(t, manifests+"e2e-skipped.yaml", configMap("skipped", "never"))

	c.WriteFile(t, manifests+"e2e.yaml", configMap("one", "first")+configMap("two", "first")+
		"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: three, namespace: default}\ndata: {value: \"%{CLUSTER_DNS}%\"}\n")
	awaitValue(t, c.node, "one", "first")
	awaitValue(t, c.node, "two", "first")
	awaitValue(t, c.node, "three", "10.43.0.10")
	addon := []string{"kubectl", "get", "addons.cleat.dev", "-A", "-o", `jsonpath={range .items[*]}{.metadata.name}{"\n"}{end}`}
	eventuallyPrints(t, c.Machine, appliedWithin, "e2e\n", addon...)

	// A changed file, with one object less.
	c.WriteFile(t, manifests+"e2e.yaml", configMap("one", "second"))
	awaitValue(t, c.node, "one", "second")
	awaitValue(t, c.node, "two", "")
	awaitValue(t, c.node, "three", "")

	// A file that cannot be applied deletes nothing.
	c.WriteFile(t, manifests+"e2e.yaml", "kind: [")
	c.WriteFile(t, manifests+"e2e-after.yaml", configMap("after", "broken"))
	awaitValue(t, c.node, "after", "broken")
	awaitValue(t, c.node, "one", "second")

	// A deleted file takes its objects along.
	if err := os.Remove(c.Path(manifests + "e2e.yaml")); err != nil {
		t.Fatal(err)
	}
	awaitValue(t, c.node, "one", "")
	lab.Eventually(t, appliedWithin, "no addon", func() error {
		out, err := c.Run(addon...)
		if err == nil && strings.Contains(out, "e2e\n") {
			err = errors.New("there is one")
		}
		return err
	})
	if got := c.kubectl(t, "get", "configmap", "skipped", "--ignore-not-found", "-o", "name"); got != "" {
		t.Errorf("a file with a .skip beside it was applied: %s", got)
	}
}

const (
	coredns     = manifests + "coredns.yaml"
	editOfUsers = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: added-to-coredns, namespace: default}\ndata: {value: \"mine\"}\n"
)

// editPackaged adds an object to a packaged manifest, as a user may.
func editPackaged(t *testing.T, c *cluster) {
	t.Helper()
	packaged, err := os.ReadFile(c.Path(coredns))
	if err != nil {
		t.Fatal(err)
	}
	c.WriteFile(t, coredns, string(packaged)+"\n"+editOfUsers)
	awaitValue(t, c.node, "added-to-coredns", "mine")
}

// checkEditKept wants the user's edit to have outlived a start of the server.
func checkEditKept(t *testing.T, c *cluster) {
	t.Helper()
	now, err := os.ReadFile(c.Path(coredns))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.HasSuffix(string(now), editOfUsers) {
		t.Error("the user's edit of coredns.yaml is gone")
	}
	awaitValue(t, c.node, "added-to-coredns", "mine")
}
