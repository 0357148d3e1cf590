//go:build e2e

package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// A run that nobody gave a focus: on two nodes, the specs that depend on no kernel
// feature, without the slow ones and those that must run alone.
const (
	sampleFocus = `\[sig-(api-machinery|apps|architecture|auth|cli|instrumentation|scheduling)\]`
	sampleSkip  = `\[Serial\]|\[Slow\]|CronJob|StatefulSet|changes to a resourcequota status`
	sampleNodes = 2
)

const (
	built   = "../../build/conformance-k8s"
	results = built + "/results"
	inside  = "/var/log/conformance" // the results, on the machine

	bootPatience = 4 * time.Minute
	cleanUp      = 6 * time.Minute // what ginkgo needs to end when its time is up, and the lab to go
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// order is what a run is asked to do.
type order struct {
	focus, skip string // regular expressions about the names of specs, "" for none
	labels      string // which specs there are at all, as ginkgo filters them
	procs       int    // specs at a time
	nodes       int    // a server and this less one agents
}

const maxNodes = 5 // on one computer

// readOrder reads CLEAT_CONFORMANCE_*, which the Makefile sets. Without a focus in
// the environment it is the sample; with an empty one, every conformance spec.
func readOrder(t *testing.T) order {
	t.Helper()
	focus, asked := os.LookupEnv("CLEAT_CONFORMANCE_FOCUS")
	o := order{focus: focus, skip: os.Getenv("CLEAT_CONFORMANCE_SKIP"), procs: 4 * runtime.NumCPU(), nodes: 1} // most specs wait most of the time
	o.labels = cmp.Or(os.Getenv("CLEAT_CONFORMANCE_LABELS"), "Conformance")
	if !asked {
		o.focus, o.skip, o.nodes = sampleFocus, sampleSkip, sampleNodes
	}
	if procs := os.Getenv("CLEAT_CONFORMANCE_PROCS"); procs != "" {
		n, err := strconv.Atoi(procs)
		if err != nil || n < 1 || n > 64 {
			t.Fatalf("PROCS=%s: must be a number from 1 to 64", procs)
		}
		o.procs = n
	}
	if nodes := os.Getenv("CLEAT_CONFORMANCE_NODES"); nodes != "" {
		n, err := strconv.Atoi(nodes)
		if err != nil || n < 1 || n > maxNodes {
			t.Fatalf("NODES=%s: must be a number from 1 to %d", nodes, maxNodes)
		}
		o.nodes = n
	}
	return o
}

// command is ginkgo with the suite, to be run on the cluster's machine.
func (o order) command(patience time.Duration) []string {
	args := []string{"ginkgo", "--no-color", "--label-filter=" + o.labels, "--timeout=" + patience.String(), "--procs=" + strconv.Itoa(o.procs)}
	if o.focus != "" {
		args = append(args, "--focus="+o.focus)
	}
	if o.skip != "" {
		args = append(args, "--skip="+o.skip)
	}
	return append(args, "/usr/local/bin/e2e.test", "--", "--provider=skeleton", "--kubeconfig=/etc/cleat/cleat.yaml", "--report-dir="+inside)
}

func TestConformance(t *testing.T) {
	o := readOrder(t)
	for _, file := range []string{"../../bin/cleat", built + "/e2e.test", built + "/ginkgo", built + "/images.tar"} {
		if _, err := os.Stat(file); err != nil {
			t.Fatalf("%v: run make build conformance-suite first", err)
		}
	}
	if err := os.RemoveAll(results); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(results, 0o755); err != nil {
		t.Fatal(err)
	}
	l := lab.New(t)
	l.Install("../../bin/cleat", "cleat", "kubectl", "ctr", "crictl")
	l.Install(built+"/e2e.test", "e2e.test")
	l.Install(built+"/ginkgo", "ginkgo")
	images := openMirror(t, built+"/images.tar")
	machine := func(name string) *lab.Machine {
		m := l.Machine(name)
		m.CopyFile(t, built+"/images.tar", "/var/lib/cleat/agent/images/conformance.tar", 0o644)
		m.WriteFile(t, "/etc/cleat/registries.yaml", images.serve(t, m))
		return m
	}
	m := machine("n1")
	boot(t, m)
	for i := 2; i <= o.nodes; i++ {
		join(t, m, machine(fmt.Sprintf("n%d", i)))
	}

	patience := time.Hour
	if deadline, ok := t.Deadline(); ok {
		patience = time.Until(deadline) - cleanUp
	}
	m.Must(t, "mkdir", "-p", inside)
	begun := time.Now()
	suite := m.Start(t, "ginkgo", o.command(patience.Truncate(time.Second))...)
	t.Cleanup(func() { keep(t, suite.LogFile(), "ginkgo.log") }) // also when it does not end
	err := follow(t, suite, patience+cleanUp/2)
	took := time.Since(begun)

	report := m.Path(filepath.Join(inside, "junit_01.xml"))
	keep(t, report, "junit.xml")
	all := parse(t, report)
	page := summary(fmt.Sprintf("Upstream's conformance specs: %d in %.1f minutes, %d at a time, nodes: %d", len(all), took.Minutes(), o.procs, o.nodes), all)
	if err := os.WriteFile(results+"/summary.md", []byte(page), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Logf("%s\nIn %s: summary.md, junit.xml, ginkgo.log\n\n%s", strings.Repeat("-", 80), results, page)
	counts := map[verdict]int{}
	for _, o := range all {
		if counts[o.verdict]++; o.verdict == failed {
			t.Errorf("%s failed", o.name)
		}
	}
	// Ginkgo counts a spec that needs more nodes as a failure too.
	if err != nil && counts[failed]+counts[refused] == 0 {
		t.Errorf("ginkgo: %v, though no spec failed: see %s/ginkgo.log", err, results)
	}
	if len(all) == 0 {
		t.Errorf("no spec was run: the focus %q and the skip %q leave none", o.focus, o.skip)
	}
}

// boot starts cleat and returns when the node and what is packaged can be used.
func boot(t *testing.T, m *lab.Machine) {
	t.Helper()
	server := m.Start(t, "cleat", "cleat", "server")
	begun := time.Now()
	t.Cleanup(func() { keep(t, server.LogFile(), "cleat.log") })
	lab.Eventually(t, bootPatience, "the cluster is up", func() error {
		if ended, err := server.Ended(); ended {
			t.Fatalf("cleat server ended: %v", err)
		}
		if _, err := m.Run("kubectl", "wait", "--for=condition=Ready", "--timeout=1s", "node/"+m.Name); err != nil {
			return err
		}
		_, err := m.Run("kubectl", "wait", "--for=condition=Available", "--timeout=1s", "-n", "kube-system", "deployment/coredns")
		return err
	})
	t.Logf("the cluster is up after %.1f s", time.Since(begun).Seconds())
}

// join makes m a node of server's cluster.
func join(t *testing.T, server, m *lab.Machine) {
	t.Helper()
	const token = "/etc/cleat/token"
	m.CopyFile(t, server.Path("/var/lib/cleat/server/token"), token, 0o600)
	agent := m.Start(t, "cleat", "cleat", "agent", "--server", fmt.Sprintf("https://%s:6443", server.Addr), "--token-file", token)
	t.Cleanup(func() { keep(t, agent.LogFile(), m.Name+".log") })
	lab.Eventually(t, bootPatience, m.Name+" is Ready", func() error {
		if ended, err := agent.Ended(); ended {
			t.Fatalf("cleat agent ended: %v", err)
		}
		_, err := server.Run("kubectl", "wait", "--for=condition=Ready", "--timeout=1s", "node/"+m.Name)
		return err
	})
}

// follow says how far the suite is until it ends, and returns how it did.
func follow(t *testing.T, suite *lab.Process, patience time.Duration) error {
	t.Helper()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	timeout := time.After(patience)
	for seconds := 1; ; seconds++ {
		select {
		case <-timeout:
			t.Fatalf("the suite has not ended after %s", patience)
		case <-tick.C:
		}
		if ended, err := suite.Ended(); ended {
			return err
		}
		if seconds%30 == 0 {
			t.Log(progress(suite.Log()))
		}
	}
}

// progress counts the marks that ginkgo prints for each spec that ended.
func progress(log string) string {
	planned := "?"
	if _, rest, ok := strings.Cut(log, "Will run "); ok {
		planned, _, _ = strings.Cut(rest, " ")
	}
	marks, failures := strings.Count(log, "•"), strings.Count(log, "• [FAILED]")
	return fmt.Sprintf("%d of %s specs, %d failed", marks, planned, failures)
}

// keep copies a file to the results.
func keep(t *testing.T, file, name string) {
	t.Helper()
	in, err := os.Open(file)
	if err != nil {
		t.Fatalf("%v: the suite ended before it wrote one", err)
	}
	defer in.Close()
	out, err := os.Create(filepath.Join(results, name))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(out, in); errors.Join(err, out.Close()) != nil {
		t.Fatalf("keep %s: %v", name, err)
	}
}

func parse(t *testing.T, report string) []outcome {
	t.Helper()
	f, err := os.Open(report)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	all, err := readReport(f)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
