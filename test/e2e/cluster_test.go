//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	image = "cleat.dev/busybox:test"

	bootPatience = 4 * time.Minute // for a machine that does other work too
	podPatience  = 90 * time.Second
)

func TestMain(m *testing.M) {
	lab.Main()
	if target := os.Getenv(slowVariable); target != "" {
		slowClients(target)
		return
	}
	if dir := os.Getenv(peerVariable); dir != "" {
		fmt.Fprintln(os.Stderr, servePeer(dir))
		os.Exit(1)
	}
	if name := os.Getenv(csiVariable); name != "" {
		fmt.Fprintln(os.Stderr, serveCSI(name))
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// newLab makes a lab whose machines have cleat, under all its names.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := lab.New(t)
	l.Install(artefact(t, "CLEAT_BIN", "bin/cleat"), "cleat", "kubectl", "ctr", "crictl")
	return l
}

// artefact returns the path in the variable, or the one in the repository.
func artefact(t *testing.T, variable, inRepository string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		path = filepath.Join("..", "..", inRepository)
	}
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make build first, or set %s", err, variable)
	}
	return path
}

// node is a machine that runs `cleat server`.
type node struct {
	*lab.Machine
	args   []string
	server *lab.Process
	booted time.Time // when the server was started last
}

// newNode makes a machine that can run pods of the test image; Serve starts cleat on it.
func newNode(t *testing.T, l *lab.Lab, name string, args ...string) *node {
	t.Helper()
	n := &node{Machine: l.Machine(name), args: args}
	n.CopyFile(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"), "/var/lib/cleat/agent/images/test-images.tar", 0o644)
	t.Cleanup(func() {
		if t.Failed() && n.server != nil {
			n.dump(t)
		}
	})
	return n
}

// serve starts cleat and returns when its node is Ready, after how many seconds.
func (n *node) serve(t *testing.T) float64 {
	t.Helper()
	n.start(t)
	return n.awaitReady(t)
}

func (n *node) start(t *testing.T) {
	t.Helper()
	n.booted = time.Now()
	n.server = n.Start(t, "cleat", append([]string{"cleat", "server"}, n.args...)...)
}

func (n *node) awaitReady(t *testing.T) float64 {
	t.Helper()
	lab.Eventually(t, bootPatience, n.Name+" is Ready", func() error {
		if ended, err := n.server.Ended(); ended {
			t.Fatalf("cleat server ended: %v", err)
		}
		return n.ready(n.Name, n.booted)
	})
	return time.Since(n.booted).Seconds()
}

// ready tells why a node is not Ready yet. A condition from before its start does
// not count.
func (n *node) ready(name string, started time.Time) error {
	out, err := n.Run("kubectl", "get", "node", name, "-o",
		`jsonpath={range .status.conditions[?(@.type=="Ready")]}{.status} {.lastHeartbeatTime} {.message}{end}`)
	if err != nil {
		return err
	}
	fields := strings.SplitN(out, " ", 3)
	if len(fields) < 3 {
		return fmt.Errorf("no Ready condition: %q", out)
	}
	beat, err := time.Parse(time.RFC3339, fields[1])
	if err != nil {
		return err
	}
	if fields[0] != "True" || beat.Before(started.Truncate(time.Second)) {
		return errors.New(out)
	}
	return nil
}

// stop ends the server as a service manager would.
func (n *node) stop(t *testing.T) {
	t.Helper()
	n.server.Signal(t, "TERM")
	if err := n.server.Wait(t, time.Minute); err != nil {
		t.Errorf("cleat server after SIGTERM: %v, want status 0", err)
	}
}

// kubectl runs kubectl on the node, as its administrator.
func (n *node) kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return n.Must(t, append([]string{"kubectl"}, args...)...)
}

// apply applies YAML to a namespace.
func (n *node) apply(t testing.TB, namespace, yaml string) {
	t.Helper()
	if _, err := n.Feed(yaml, "kubectl", "apply", "-n", namespace, "-f", "-"); err != nil {
		t.Fatal(err)
	}
}

// namespace makes a namespace that lives as long as the test, and waits until
// pods may be created in it.
func (n *node) namespace(t *testing.T, name string, labels ...string) string {
	t.Helper()
	n.kubectl(t, "create", "namespace", name)
	if len(labels) > 0 {
		n.kubectl(t, append([]string{"label", "namespace", name}, labels...)...)
	}
	t.Cleanup(func() {
		if _, err := n.Run("kubectl", "delete", "namespace", name, "--wait=false"); err != nil {
			t.Error(err)
		}
	})
	lab.Eventually(t, podPatience, "service account of "+name, func() error {
		_, err := n.Run("kubectl", "get", "serviceaccount", "default", "-n", name)
		return err
	})
	return name
}

// awaitPod waits until a pod's containers are ready.
func (n *node) awaitPod(t testing.TB, namespace, pod string) {
	t.Helper()
	lab.Eventually(t, podPatience, "pod "+pod, func() error {
		out, err := n.Run("kubectl", "get", "pod", pod, "-n", namespace, "-o",
			`jsonpath={.status.conditions[?(@.type=="Ready")].status} {.status.phase} {.status.containerStatuses}`)
		if err == nil && !strings.HasPrefix(out, "True") {
			err = errors.New(out)
		}
		return err
	})
}

// eventuallyPrints waits until a command on the machine succeeds and prints want.
func eventuallyPrints(t testing.TB, m *lab.Machine, patience time.Duration, want string, args ...string) {
	t.Helper()
	lab.Eventually(t, patience, strings.Join(args, " "), func() error {
		out, err := m.Run(args...)
		if err == nil && !strings.Contains(out, want) {
			err = fmt.Errorf("printed %q, want %q", out, want)
		}
		return err
	})
}

// dump shows what a cluster knows about itself.
func (n *node) dump(t *testing.T) {
	for _, args := range [][]string{
		{"cleat", "status"},
		{"kubectl", "get", "nodes,pods,services,endpointslices", "-A", "-o", "wide"},
		{"kubectl", "get", "events", "-A", "--sort-by=.lastTimestamp"},
		{"sh", "-c", "ip addr; ip route"},
	} {
		out, err := n.Run(args...)
		if err != nil {
			out += err.Error()
		}
		t.Logf("%s on %s:\n%s", strings.Join(args, " "), n.Name, out)
	}
}
