// Package collector sets Go's garbage collector to what the server does, because
// all parts of it share one heap.
package collector

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"
)

// While the server starts or works, time is worth more than memory; while it idles,
// the other way round. What a start allocates is needed for good or for a moment,
// and collecting it on the way was a tenth of a start's work.
const (
	startHeap   = 448 << 20 // bytes that a start may take before it collects
	startMemory = 1 << 30   // of a machine that can spare them

	busyPercent = 200 // GOGC, within half of the machine's memory
	idlePercent = 60
	busyRate    = 16 << 20 // bytes allocated in a second, far more than an idle server does
	busyAfter   = 2        // seconds in a row
	idleAfter   = 10
)

// follower changes the settings with the rate of allocation.
type follower struct {
	log       *slog.Logger
	allocated func() uint64 // bytes since the process began
	tick      <-chan time.Time
}

// Follow keeps the garbage collector out of the way of a start, which lasts until
// started returns, and of work, within bounds, and has it be sparing with memory
// otherwise. GOGC and GOMEMLIMIT, where an operator sets them, are left alone. stop
// waits for what it began; call it once in a process.
func Follow(ctx context.Context, started func(context.Context) error, log *slog.Logger) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	if memory() >= startMemory {
		debug.SetMemoryLimit(startHeap)
		debug.SetGCPercent(-1)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		failed := started(ctx)
		if half := memory() / 2; half > 0 {
			debug.SetMemoryLimit(half)
		}
		debug.SetGCPercent(busyPercent)
		if failed != nil {
			return
		}
		ticker := time.NewTicker(time.Second)
		defer ticker.Stop()
		follower{log: log, allocated: allocated, tick: ticker.C}.follow(ctx)
	}()
	return func() {
		cancel()
		<-done
	}
}

// follow begins with a busy server, and ends with ctx.
func (f follower) follow(ctx context.Context) {
	busy, others, last := true, 0, f.allocated()
	for {
		select {
		case <-ctx.Done():
			return
		case <-f.tick:
		}
		now := f.allocated()
		if (now-last > busyRate) == busy {
			others = 0
		} else {
			others++
		}
		last = now
		switch {
		case busy && others == idleAfter:
			busy, others = false, 0
			debug.SetGCPercent(idlePercent)
			debug.FreeOSMemory()
			if err := letGoOfProgram(); err != nil {
				f.log.Debug("the program's pages stay mapped", "reason", err)
			}
		case !busy && others == busyAfter:
			busy, others = true, 0
			debug.SetGCPercent(busyPercent)
		}
	}
}

// allocated is how many bytes this process has allocated so far.
func allocated() uint64 {
	sample := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(sample)
	return sample[0].Value.Uint64()
}

// letGoOfProgram unmaps the pages of the program's own file: what only a start
// reads (initialisation, packaged images and programs) is most of them. What is
// needed again comes back from the page cache. Pages that can be written are not
// the file's any more, and stay.
func letGoOfProgram() error {
	self, err := procfs.Self()
	if err != nil {
		return err
	}
	program, err := self.Executable()
	if err != nil {
		return err
	}
	maps, err := self.ProcMaps()
	if err != nil {
		return err
	}
	for _, m := range maps {
		if m.Pathname != program || m.Perms.Write {
			continue
		}
		if _, _, errno := unix.Syscall(unix.SYS_MADVISE, m.StartAddr, m.EndAddr-m.StartAddr, unix.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("madvise: %w", errno)
		}
	}
	return nil
}

// memory is how many bytes the machine has, 0 if it does not tell.
func memory() int64 {
	proc, err := procfs.NewDefaultFS()
	if err != nil {
		return 0
	}
	info, err := proc.Meminfo()
	if err != nil || info.MemTotalBytes == nil {
		return 0
	}
	return int64(*info.MemTotalBytes)
}
