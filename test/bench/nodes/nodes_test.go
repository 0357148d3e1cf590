//go:build bench

package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/procfs"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/test/bench/processes"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	tool      = "cleat-bench" // the test binary, as a program of the machines
	spent     = "spent"       // a word that it takes
	resultDir = "../../../build/bench"

	patience     = 5 * time.Minute // for a start, on a computer that does other work too
	lifeOfHollow = 2 * time.Hour   // they end by themselves
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == tool && len(os.Args) > 1 {
		if err := asTool(os.Args[1]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main()
	os.Exit(m.Run())
}

// asTool runs the binary as a program inside a machine: with a duration it measures
// what idle processes need, with the word spent what they have needed since they
// began. What it finds is on standard output, as JSON.
func asTool(word string) error {
	if word == spent {
		fs, err := procfs.NewDefaultFS()
		if err != nil {
			return err
		}
		all, err := processes.Read(fs, false)
		if err != nil {
			return err
		}
		return json.NewEncoder(os.Stdout).Encode(processes.Spent(all))
	}
	window, err := time.ParseDuration(word)
	if err != nil {
		return err
	}
	idle, err := processes.Watch(window)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(idle)
}

// TestNodes prints the tables of docs/reference/benchmarks.md.
func TestNodes(t *testing.T) {
	c, err := readChoices(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	r := result{Choices: c}
	if c.Joins > 0 {
		t.Run("join", func(t *testing.T) { measureJoins(t, &r) })
	}
	t.Run("growth", func(t *testing.T) { measureGrowth(t, &r) })
	report, err := render(r)
	t.Logf("\n%s", report)
	if err != nil {
		t.Error(err)
	}
	write(t, "nodes.md", []byte(report))
}

// write leaves a file among the results.
func write(t *testing.T, name string, text []byte) {
	t.Helper()
	err := os.MkdirAll(resultDir, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(resultDir, name), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// keep writes what there is so far, so that an end before the last step leaves it.
func (r *result) keep(t *testing.T) {
	t.Helper()
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		t.Fatal(err)
	}
	write(t, "nodes.json", text)
}

// measureJoins lets one agent join again and again, cold and warm in turns.
func measureJoins(t *testing.T, r *result) {
	k := newCluster(t, "n2")
	m := k.Machine("n2")
	for range r.Choices.Joins {
		for _, kind := range []*[]join{&r.Cold, &r.Warm} {
			began := time.Now()
			p := k.startAgent(t, m)
			j := join{Ready: k.awaitReady(t, began, p, m.Name)}
			if err := json.Unmarshal([]byte(m.Must(t, tool, spent)), &j.Spent); err != nil {
				t.Fatal(err)
			}
			*kind = append(*kind, j)
			p.Signal(t, "TERM")
			if err := p.Wait(t, patience); err != nil {
				t.Fatalf("stopping the agent: %v", err)
			}
			// The API keeps whole seconds: in this one, what the agent that has ended said
			// of its Node could not be told from what the next one says.
			time.Sleep(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
			m.Crash()
			if kind == &r.Warm {
				k.forget(t, m)
			}
			m.Boot()
		}
	}
	r.keep(t)
}

// forget empties the disks of a machine, which is off, and removes its Node. The
// password of the node stays, or it would not be let in again.
func (k *cluster) forget(t *testing.T, m *lab.Machine) {
	t.Helper()
	for _, dir := range lab.Disk() {
		if dir == "/etc/cleat" {
			continue
		}
		entries, err := os.ReadDir(m.Path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(m.Path(dir), e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := k.client.CoreV1().Nodes().Delete(t.Context(), m.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// measureGrowth measures the server with 1, 2 and 3 real nodes and then with hollow
// ones, without pods and at the end with one for each.
func measureGrowth(t *testing.T, r *result) {
	k := newCluster(t, "n2", "n3")
	measure := func(s step) {
		s = k.measure(t, r.Choices, s)
		t.Logf("%d real and %d hollow nodes, %d pods: %.0f MiB", s.Real, s.Hollow, s.Pods, processes.Mebibytes(s.Server.Memory().PSS))
		r.Steps = append(r.Steps, s)
		r.keep(t)
	}
	measure(step{Real: 1})
	var agents []*lab.Machine
	for i, name := range []string{"n2", "n3"} {
		m := k.Machine(name)
		agents = append(agents, m)
		began := time.Now()
		took := k.awaitReady(t, began, k.startAgent(t, m), name)
		measure(step{Real: 2 + i, Ready: took})
	}
	r.Agents = watchAgents(t, agents, r.Choices.Window)
	r.keep(t)

	m := k.Machine("hollow")
	hollow := 0
	var p *lab.Process
	for _, n := range hollowSteps(r.Choices.Hollow) {
		began := time.Now()
		p = k.startHollow(t, m, hollow+1, n-hollow)
		k.await(t, p, fmt.Sprintf("%d hollow nodes", n), time.Second, func(ctx context.Context) error { return k.allReady(ctx, realNodes+n) })
		hollow = n
		measure(step{Real: realNodes, Hollow: n, Ready: time.Since(began).Seconds()})
	}
	if hollow > 0 {
		took := k.deploy(t, p, hollow)
		measure(step{Real: realNodes, Hollow: hollow, Pods: hollow, Ready: took})
	}
	k.profile(t)
}

// measure waits until what was begun has settled, and measures the server.
func (k *cluster) measure(t *testing.T, c choices, s step) step {
	t.Helper()
	time.Sleep(c.Settle) // caches fill and garbage goes in the first minute
	before, began := k.counters(t), time.Now()
	s.Server = endWatch(t, k.server, beginWatch(t, k.server, c.Window), c.Window)
	s.Counters = k.counters(t)
	s.Requests = (s.Counters.Requests - before.Requests) / time.Since(began).Seconds()
	s.Window = c.Window.Seconds()
	files, err := filepath.Glob(k.server.Path("/var/lib/cleat/server/db/state.db*"))
	if err != nil || len(files) == 0 {
		t.Fatalf("the database: %v, %v", files, err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		s.Database += info.Size()
	}
	return s
}

// watchAgents measures all agents over the same window.
func watchAgents(t *testing.T, machines []*lab.Machine, window time.Duration) []agent {
	t.Helper()
	agents := make([]agent, len(machines))
	begun := make([]*lab.Process, len(machines))
	for i, m := range machines {
		begun[i] = beginWatch(t, m, window)
	}
	for i, m := range machines {
		agents[i] = agent{Name: m.Name, Idle: endWatch(t, m, begun[i], window)}
	}
	return agents
}
