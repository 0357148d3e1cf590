package processes

import (
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/procfs"
)

// machine is a machine with a cluster, the starter and one pod.
func machine() map[int]Process {
	return map[int]Process{
		1:  {Name: "init", Start: 1, Seconds: 9},
		10: {Name: "cleat-bench", Parent: 1, Self: true, Start: 2, Seconds: 9, Ended: 0.25},
		11: {Name: "kubelet", Parent: 10, Start: 3, Seconds: 5, Memory: Memory{PSS: 100}},
		12: {Name: "nft", Parent: 11, Start: 4, Seconds: 0.5, Memory: Memory{PSS: 1}},
		20: {Name: shimName, Parent: 1, Start: 5, Seconds: 1, Memory: Memory{PSS: 10}},
		21: {Name: "pause", Parent: 20, Start: 6, Seconds: 1, Memory: Memory{PSS: 1000}},
		22: {Name: "sh", Parent: 20, Start: 7, Seconds: 1, Memory: Memory{PSS: 1000}},
		23: {Name: "sleep", Parent: 22, Start: 8, Seconds: 1, Memory: Memory{PSS: 1000}},
		30: {Name: shimName, Parent: 1, Start: 9, Seconds: 2, Memory: Memory{PSS: 10}},
	}
}

func TestCounted(t *testing.T) {
	got := slices.Sorted(maps.Keys(counted(machine())))
	if want := []int{11, 12, 20, 30}; !slices.Equal(got, want) {
		t.Errorf("counted %v, want %v: neither init, the benchmark nor what is in pods", got, want)
	}
	// Numbers that were given away again may look like a ring.
	ring := map[int]Process{2: {Parent: 3}, 3: {Parent: 2}}
	if got := counted(ring); len(got) != 2 {
		t.Errorf("counted %v", got)
	}
}

func TestSpent(t *testing.T) {
	// kubelet, nft and two shims, and what the starter ran.
	if got, want := Spent(machine()), 5+0.5+1+2+0.25; got != want {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestCompare(t *testing.T) {
	after := machine()
	delete(after, 12) // the kubelet has waited for it, and its time with it
	kubelet := after[11]
	kubelet.Seconds = 7.5
	after[11] = kubelet
	got, err := compare(machine(), after)
	if err != nil {
		t.Fatal(err)
	}
	want := []Figures{{shimName, 2, Memory{PSS: 20}, 0}, {"kubelet", 1, Memory{PSS: 100}, 2.5}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}

	for name, change := range map[string]func(map[int]Process){
		"ended":       func(all map[int]Process) { delete(all, 11) },
		"was started": func(all map[int]Process) { all[11] = Process{Name: "kubelet", Parent: 10, Start: 99} },
	} {
		after := machine()
		change(after)
		if _, err := compare(machine(), after); err == nil || !strings.Contains(err.Error(), "kubelet") {
			t.Errorf("the kubelet %s: %v, want an error that names it", name, err)
		}
	}
}

// The kernel's own files are read for this very process and its parent.
func TestProcesses(t *testing.T) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		t.Fatal(err)
	}
	all, err := Read(fs, true)
	if err != nil {
		t.Fatal(err)
	}
	self := all[os.Getpid()]
	if !self.Self || self.Parent != os.Getppid() || self.Start == 0 {
		t.Errorf("this process: %+v", self)
	}
	parent := all[self.Parent]
	if parent.Self || parent.Name == "" || parent.USS == 0 || parent.PSS < parent.USS || parent.RSS < parent.PSS {
		t.Errorf("its parent: %+v", parent)
	}
}
