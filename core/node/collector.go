package node

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"unsafe"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/kernel"
)

// The garbage collector's settings. A start allocates some 600 MiB, most of it
// once and for all, so collecting it on the way is a tenth of a start's work for
// little; afterwards memory that lies idle is worth more than time.
const (
	startHeap     = 448 << 20 // bytes that a start may take before it collects
	startMemory   = 1 << 30   // of a machine that can spare them
	steadyPercent = 60        // GOGC once the server is ready
)

// easeStart keeps the garbage collector out of a start, within bounds, and sets it
// to be sparing with memory when all units are ready. GOGC and GOMEMLIMIT, where
// an operator sets them, are left alone. stop waits for what it began.
func easeStart(ctx context.Context, k *kernel.Kernel, log *slog.Logger) (stop func()) {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return func() {}
	}
	none := debug.SetMemoryLimit(-1)
	if memory() >= startMemory {
		debug.SetMemoryLimit(startHeap)
		debug.SetGCPercent(-1)
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		err := k.WaitReady(ctx)
		debug.SetGCPercent(steadyPercent)
		debug.SetMemoryLimit(none)
		if err == nil {
			debug.FreeOSMemory()
			if err := letGoOfProgram(); err != nil {
				log.Debug("the program's pages stay mapped", "reason", err)
			}
		}
	}()
	return func() {
		cancel()
		<-done
	}
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
		pages := unsafe.Slice((*byte)(unsafe.Pointer(m.StartAddr)), m.EndAddr-m.StartAddr)
		if err := unix.Madvise(pages, unix.MADV_DONTNEED); err != nil {
			return fmt.Errorf("madvise: %w", err)
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
