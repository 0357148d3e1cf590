// Package processes measures the memory and the processor time of all processes of a
// machine. The benchmarks share it; it runs inside the machine.
package processes

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/prometheus/procfs"
)

// shimName is what the kernel calls a containerd-shim-runc-v2, in 15 bytes.
const shimName = "containerd-shim"

// Process is one process of a machine at one moment.
type Process struct {
	Name    string
	Parent  int
	Self    bool    // it runs the benchmark's own program
	Start   uint64  // with its number, what tells it from a later one
	Seconds float64 // of processor time, with its ended children's
	Ended   float64 // of those children alone
	Memory          // 0 if not asked for
}

// Memory is in bytes.
type Memory struct {
	PSS uint64 // resident, a page that several processes share counted in parts
	RSS uint64 // resident, such a page counted in full
	USS uint64 // resident in this process alone
}

func (m Memory) plus(o Memory) Memory {
	return Memory{PSS: m.PSS + o.PSS, RSS: m.RSS + o.RSS, USS: m.USS + o.USS}
}

// Figures are of all processes of one name.
type Figures struct {
	Name    string
	Count   int
	Memory          // at the end of the window
	Seconds float64 // of processor time in the window, with that of children that ended
}

// Idle are all processes of a machine but those in its pods, over a window.
type Idle struct {
	Processes []Figures
	Others    float64 // processor seconds that the rest of the computer spent meanwhile
}

// Memory is that of all processes together.
func (i Idle) Memory() Memory {
	var sum Memory
	for _, p := range i.Processes {
		sum = sum.plus(p.Memory)
	}
	return sum
}

// Seconds is the processor time of all processes together.
func (i Idle) Seconds() float64 {
	var sum float64
	for _, p := range i.Processes {
		sum += p.Seconds
	}
	return sum
}

// Mebibytes says bytes in MiB.
func Mebibytes(bytes uint64) float64 { return float64(bytes) / (1 << 20) }

// counted leaves out the machine's first process, the benchmark's own and what
// runs in pods, which is everything below a shim.
func counted(all map[int]Process) map[int]Process {
	own := map[int]Process{}
	for pid, p := range all {
		if pid == 1 || p.Self || inPod(all, p) {
			continue
		}
		own[pid] = p
	}
	return own
}

func inPod(all map[int]Process, p Process) bool {
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
func compare(before, after map[int]Process) ([]Figures, error) {
	first, last := counted(before), counted(after)
	for pid, p := range first {
		_, helper := first[p.Parent]
		if q, ok := last[pid]; !helper && (!ok || q.Start != p.Start) {
			return nil, fmt.Errorf("%s (process %d) ended in the idle window", p.Name, pid)
		}
	}
	sums := map[string]Figures{}
	for pid, p := range last {
		sum := sums[p.Name]
		sum.Name = p.Name
		sum.Count++
		sum.Memory = sum.plus(p.Memory)
		sum.Seconds += p.Seconds - first[pid].Seconds
		sums[p.Name] = sum
	}
	var figures []Figures
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		figures = append(figures, sums[name])
	}
	return figures, nil
}

// Read reads all processes of the machine it runs on. With memory it takes a
// while: the kernel walks through it.
func Read(fs procfs.FS, memory bool) (map[int]Process, error) {
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
	all := map[int]Process{}
	for _, p := range list {
		stat, err := p.Stat()
		if err != nil {
			continue // it ended meanwhile
		}
		running, err := p.Executable()
		if err != nil || running == "" {
			continue // it ended, or is the kernel's
		}
		one := Process{
			Name: stat.Comm, Parent: stat.PPID, Self: running == exe, Start: stat.Starttime,
			Ended: float64(stat.CUTime+stat.CSTime) / 100, // the kernel counts in hundredths
		}
		one.Seconds = stat.CPUTime() + one.Ended
		if memory && !one.Self {
			rollup, err := p.ProcSMapsRollup()
			if err != nil {
				continue
			}
			one.Memory = Memory{PSS: rollup.Pss, RSS: rollup.Rss, USS: rollup.PrivateClean + rollup.PrivateDirty}
		}
		all[p.PID] = one
	}
	return all, nil
}

// Spent is the processor time of all that is counted since it began, with that of
// programs which the starter ran and which have ended.
func Spent(all map[int]Process) float64 {
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

// Busy is the processor time, in seconds, that the whole computer has spent on
// anything, its neighbours on the same hardware included.
func Busy(fs procfs.FS) (float64, error) {
	stat, err := fs.Stat()
	c := stat.CPUTotal
	return c.User + c.Nice + c.System + c.IRQ + c.SoftIRQ + c.Steal, err
}

// Watch measures the processes of the machine it runs on for a time.
func Watch(window time.Duration) (Idle, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return Idle{}, err
	}
	busyBefore, err := Busy(fs)
	if err != nil {
		return Idle{}, err
	}
	before, err := Read(fs, false)
	if err != nil {
		return Idle{}, err
	}
	time.Sleep(window) // the time that is measured
	busyAfter, err := Busy(fs)
	if err != nil {
		return Idle{}, err
	}
	after, err := Read(fs, true)
	if err != nil {
		return Idle{}, err
	}
	list, err := compare(before, after)
	idle := Idle{Processes: list}
	idle.Others = busyAfter - busyBefore - idle.Seconds()
	return idle, err
}
