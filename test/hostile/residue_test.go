package hostile

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
)

// residue is what a process holds.
type residue struct {
	goroutines int
	heap       int64 // bytes in use on the Go heap, after a collection
	mappings   int
	mapped     int64 // bytes of address space
	resident   int64 // bytes
	files      int
}

// measure collects garbage and looks.
func measure(t testing.TB) residue {
	t.Helper()
	for range 3 { // finalizers free what the next round collects
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	r := residue{
		goroutines: runtime.NumGoroutine(), heap: int64(m.HeapAlloc),
		mapped: statusBytes("VmSize"), resident: statusBytes("VmRSS"),
	}
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	r.mappings = strings.Count(string(maps), "\n")
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	r.files = len(files)
	return r
}

func (r residue) String() string {
	return fmt.Sprintf("%d goroutines, heap %.1f MiB, %d mappings of %d MiB, resident %d MiB, %d files",
		r.goroutines, float64(r.heap)/(1<<20), r.mappings, r.mapped>>20, r.resident>>20, r.files)
}

// statusBytes reads a size from /proc/self/status.
func statusBytes(field string) int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(rest), "kB")), 10, 64)
			if err != nil {
				return 0
			}
			return n << 10
		}
	}
	return 0
}

// allocated is how many bytes were ever allocated on the Go heap.
func allocated() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.TotalAlloc)
}
