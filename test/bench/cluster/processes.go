package cluster

import (
	"fmt"
	"maps"
	"slices"

	"github.com/prometheus/procfs"
)

// shimName is what the kernel calls a containerd-shim-runc-v2, in 15 bytes.
const shimName = "containerd-shim"

// process is one process of a machine at one moment.
type process struct {
	Name    string
	Parent  int
	Self    bool    // it runs the benchmark's own program
	Start   uint64  // with its number, what tells it from a later one
	Seconds float64 // of processor time, with its ended children's
	Ended   float64 // of those children alone
	PSS     uint64  // bytes; 0 if not asked for
}

// counted leaves out the machine's first process, the benchmark's own and what
// runs in pods, which is everything below a shim.
func counted(all map[int]process) map[int]process {
	own := map[int]process{}
	for pid, p := range all {
		if pid == 1 || p.Self || inPod(all, p) {
			continue
		}
		own[pid] = p
	}
	return own
}

func inPod(all map[int]process, p process) bool {
	for range len(all) { // the numbers may have been given to others meanwhile: no loop
		parent, ok := all[p.Parent]
		if !ok {
			return false
		}
		if parent.Name == shimName {
			return true
		}
		p = parent
	}
	return false
}

// compare sums up by name what the counted processes did between two moments. A
// program that ended meanwhile is an error. What it ran itself, such as nft, may
// end: its time is then the program's.
func compare(before, after map[int]process) ([]processFigures, error) {
	first, last := counted(before), counted(after)
	for pid, p := range first {
		_, helper := first[p.Parent]
		if q, ok := last[pid]; !helper && (!ok || q.Start != p.Start) {
			return nil, fmt.Errorf("%s (process %d) ended in the idle window", p.Name, pid)
		}
	}
	sums := map[string]processFigures{}
	for pid, p := range last {
		sum := sums[p.Name]
		sum.Name = p.Name
		sum.Count++
		sum.PSS += p.PSS
		sum.Seconds += p.Seconds - first[pid].Seconds
		sums[p.Name] = sum
	}
	var figures []processFigures
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		figures = append(figures, sums[name])
	}
	return figures, nil
}

// processes reads all processes of the machine it runs on. With pss it takes a
// while: the kernel walks through their memory.
func processes(fs procfs.FS, pss bool) (map[int]process, error) {
	self, err := fs.Self()
	if err != nil {
		return nil, err
	}
	exe, err := self.Executable()
	if err != nil {
		return nil, err
	}
	list, err := fs.AllProcs()
	if err != nil {
		return nil, err
	}
	all := map[int]process{}
	for _, p := range list {
		stat, err := p.Stat()
		if err != nil {
			continue // it ended meanwhile
		}
		running, err := p.Executable()
		if err != nil || running == "" {
			continue // it ended, or is the kernel's
		}
		one := process{
			Name: stat.Comm, Parent: stat.PPID, Self: running == exe, Start: stat.Starttime,
			Ended: float64(stat.CUTime+stat.CSTime) / 100, // the kernel counts in hundredths
		}
		one.Seconds = stat.CPUTime() + one.Ended
		if pss && !one.Self {
			rollup, err := p.ProcSMapsRollup()
			if err != nil {
				continue
			}
			one.PSS = rollup.Pss
		}
		all[p.PID] = one
	}
	return all, nil
}

// spent is the processor time of all that is counted since it began, with that of
// programs which the starter ran and which have ended.
func spent(all map[int]process) float64 {
	var sum float64
	for _, p := range counted(all) {
		sum += p.Seconds
	}
	for _, p := range all {
		if p.Self {
			sum += p.Ended
		}
	}
	return sum
}

// busy is the processor time, in seconds, that the whole computer has spent on
// anything, its neighbours on the same hardware included.
func busy(fs procfs.FS) (float64, error) {
	stat, err := fs.Stat()
	c := stat.CPUTotal
	return c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal, err
}
