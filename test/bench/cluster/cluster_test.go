//go:build bench

package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/procfs"

	"github.com/cleat-dev/cleat/test/bench/processes"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	tool     = "cleat-bench" // the test binary, as a program of the machines
	logs     = "/var/log/bench"
	specFile = logs + "/spec.json"
	timeFile = logs + "/times.json"

	image        = "cleat.dev/busybox:test"
	bootPatience = 2 * time.Minute // on a computer that does other work too
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == tool && len(os.Args) > 2 {
		if err := asTool(os.Args[1], os.Args[2]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	lab.Main()
	os.Exit(m.Run())
}

// asTool runs the binary as one of the programs inside a machine. What it finds
// is on standard output, as JSON.
func asTool(word, arg string) error {
	var result any
	var err error
	switch word {
	case "start":
		var s spec
		text, err := os.ReadFile(arg)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(text, &s); err != nil {
			return err
		}
		told, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		defer stop()
		return runStarter(told, s)
	case "idle":
		var window time.Duration
		if window, err = time.ParseDuration(arg); err == nil {
			result, err = processes.Watch(window)
		}
	case "api":
		result, err = measureAPI(arg)
	case "profile":
		return saveProfile(arg)
	default:
		err = fmt.Errorf("unknown tool %q", word)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

// side is one of the clusters that are compared.
type side struct {
	name       string
	machine    *lab.Machine
	kubeconfig string // in the machine
	readyz     string
	prepare    func(t *testing.T) // writes what is there before the first start
	booted     func(t *testing.T) // sets what a machine sets when it boots
	programs   func(cold bool) []program
}

// TestCluster prints the tables of docs/reference/benchmarks.md.
func TestCluster(t *testing.T) {
	s, err := readSettings(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	var outcomes []outcome
	sides := makeSides(t)
	var names []string
	for _, side := range sides {
		names = append(names, side.name)
	}
	for n := range s.Runs {
		for _, side := range sides {
			o := side.run(t, s)
			o.Run = n + 1
			outcomes = append(outcomes, o)
			writeJSON(t, s, outcomes) // so that an end before the last run leaves those before it
		}
	}
	report := render(names, outcomes)
	t.Logf("medians of %d runs, with the smallest and the largest:\n\n%s", s.Runs, report)
	if err := os.WriteFile(filepath.Join(resultDir, "cluster.md"), []byte(report), 0o644); err != nil {
		t.Fatal(err)
	}
}

const resultDir = "../../../build/bench"

func writeJSON(t *testing.T, s choices, outcomes []outcome) {
	t.Helper()
	text, err := json.MarshalIndent(map[string]any{"settings": s, "outcomes": outcomes}, "", "\t")
	if err == nil {
		err = os.MkdirAll(resultDir, 0o755)
	}
	if err == nil {
		err = os.WriteFile(filepath.Join(resultDir, "cluster.json"), text, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// artefact is the path of something that make built.
func artefact(t *testing.T, inBuild string) string {
	t.Helper()
	path := filepath.Join("../../../build", inBuild)
	if _, err := os.Stat(path); err != nil {
		t.Fatalf("%v: run make bench, which builds it", err)
	}
	return path
}

// newLab makes a lab whose machines have cleat and the benchmark's own tools.
func newLab(t *testing.T) *lab.Lab {
	t.Helper()
	l := lab.New(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.Install(self, tool)
	l.Install("../../../bin/cleat", "cleat", "kubectl")
	return l
}

// cleatSide makes the machine of `cleat server`.
func cleatSide(l *lab.Lab) *side {
	a := &side{name: "cleat", machine: l.Machine("cleat"), kubeconfig: "/etc/cleat/cleat.yaml", readyz: "/readyz?exclude=units"}
	a.prepare = func(t *testing.T) {
		a.machine.CopyFile(t, artefact(t, "test-images.tar"), "/var/lib/cleat/agent/images/test-images.tar", 0o644)
	}
	a.booted = func(*testing.T) {} // it sets what it needs itself
	a.programs = func(bool) []program {
		return []program{{Name: "cleat", Args: []string{"cleat", "server", "--disable", "coredns"}}}
	}
	return a
}

// makeSides makes a machine for each cluster, all off.
func makeSides(t *testing.T) []*side {
	t.Helper()
	l := newLab(t)
	for _, p := range upstreamPrograms() {
		l.Install(artefact(t, filepath.Join("upstream", p)), p)
	}
	sides := []*side{cleatSide(l)}
	for _, store := range []store{etcdStore(), kineStore()} {
		m := l.Machine(store.program.Name)
		sides = append(sides, &side{
			name: "upstream on " + m.Name, machine: m, kubeconfig: upstreamDir + "/pki/admin.kubeconfig", readyz: "/readyz",
			prepare:  func(t *testing.T) { prepareUpstream(t, m) },
			booted:   func(t *testing.T) { m.Must(t, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward") },
			programs: func(cold bool) []program { return upstreamCluster(m, store, cold) },
		})
	}
	for _, s := range sides {
		s.machine.Crash()
	}
	return sides
}

// run does one run of a side: a start from nothing, the idle window, a second
// start after the machine was off, and requests.
func (s *side) run(t *testing.T, want choices) outcome {
	t.Helper()
	o := outcome{Side: s.name, LoadBefore: loadAverage(t)}
	s.wipe(t)
	s.prepare(t)
	s.machine.Boot()
	defer s.machine.Crash()
	starter, times := s.start(t, "cold", true)
	if want.wants(figureBoot) {
		o.Cold = &times
	}
	if want.wants(figureIdle) {
		time.Sleep(want.Settle) // controllers do work in the first minute that they never do again
		o.Idle = &processes.Idle{}
		s.ask(t, o.Idle, want.Window+time.Minute, "idle", want.Window.String())
	}
	if want.wants(figureBoot) {
		// Deleted, so that the second start has the first pod to itself.
		s.machine.Must(t, "kubectl", "--kubeconfig", s.kubeconfig, "delete", "pod", "cold")
		stop(t, starter)
		s.machine.Crash()
		s.machine.Boot()
		var warm bootTimes
		starter, warm = s.start(t, "warm", false)
		o.Warm = &warm
	}
	if want.wants(figureAPI) {
		s.ask(t, &o.API, 10*time.Minute, "api", s.kubeconfig)
	}
	stop(t, starter)
	t.Logf("%s: %+v", s.name, summary(o))
	return o
}

// wipe empties the disks of the machine, which is off.
func (s *side) wipe(t *testing.T) {
	t.Helper()
	for _, dir := range lab.Disk() {
		entries, err := os.ReadDir(s.machine.Path(dir))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if err := os.RemoveAll(filepath.Join(s.machine.Path(dir), e.Name())); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// start starts the cluster and returns when all milestones are reached.
func (s *side) start(t *testing.T, pod string, cold bool) (*lab.Process, bootTimes) {
	t.Helper()
	manifest := fmt.Sprintf(`{"metadata":{"name":%q},"spec":{"terminationGracePeriodSeconds":1,
		"containers":[{"name":"sleep","image":%q,"imagePullPolicy":"Never","command":["sleep","100000"]}]}}`, pod, image)
	text, err := json.Marshal(spec{
		Programs: s.programs(cold), Logs: logs, Kubeconfig: s.kubeconfig, Readyz: s.readyz, Node: s.machine.Name,
		Pod: json.RawMessage(manifest), PodName: pod, Result: timeFile, Patience: bootPatience,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.machine.WriteFile(t, specFile, string(text))
	if err := os.RemoveAll(s.machine.Path(timeFile)); err != nil {
		t.Fatal(err)
	}
	s.booted(t)
	starter := s.machine.Start(t, "starter", tool, "start", specFile)
	var times bootTimes
	lab.Eventually(t, bootPatience+time.Minute, s.name+", "+pod+" start", func() error {
		if ended, err := starter.Ended(); ended {
			s.dump(t)
			t.Fatalf("%s did not come up: %v", s.name, err)
		}
		text, err := os.ReadFile(s.machine.Path(timeFile))
		if err != nil {
			return err
		}
		return json.Unmarshal(text, &times)
	})
	return starter, times
}

// ask runs a tool in the machine and reads what it prints.
func (s *side) ask(t *testing.T, into any, patience time.Duration, args ...string) {
	t.Helper()
	p := s.machine.Start(t, args[0], append([]string{tool}, args...)...)
	if err := p.Wait(t, patience); err != nil {
		s.dump(t)
		t.Fatalf("%s, %s: %v: %s", s.name, args[0], err, p.Log())
	}
	// Earlier runs wrote into the same log.
	printed := strings.Split(strings.TrimSpace(p.Log()), "\n")
	if err := json.Unmarshal([]byte(printed[len(printed)-1]), into); err != nil {
		t.Fatalf("%s, %s: %v: %s", s.name, args[0], err, p.Log())
	}
}

func stop(t *testing.T, starter *lab.Process) {
	t.Helper()
	starter.Signal(t, "TERM")
	if err := starter.Wait(t, 5*time.Minute); err != nil {
		t.Fatalf("stopping: %v\n%s", err, starter.Log())
	}
}

// dump shows the ends of the programs' logs.
func (s *side) dump(t *testing.T) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.machine.Path(logs), "*.log"))
	if err != nil {
		t.Error(err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			t.Error(err)
			continue
		}
		t.Logf("the end of %s:\n%s", filepath.Base(f), text[max(0, len(text)-4000):])
	}
}

func loadAverage(t *testing.T) float64 {
	t.Helper()
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		t.Fatal(err)
	}
	load, err := fs.LoadAvg()
	if err != nil {
		t.Fatal(err)
	}
	return load.Load1
}

// summary is one line about a run, for whoever watches.
func summary(o outcome) string {
	var parts []string
	for _, r := range rows([]outcome{o}) {
		if v, ok := r.read(o); ok && !strings.Contains(r.name, "p50") && !strings.Contains(r.name, "p99") {
			parts = append(parts, fmt.Sprintf("%s %.*f", r.name, r.digits, v))
		}
	}
	return strings.Join(parts, "; ")
}
