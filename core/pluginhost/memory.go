package pluginhost

import (
	"context"

	"github.com/tetratelabs/wazero/experimental"
	"golang.org/x/sys/unix"
)

// withMemory makes instances keep their linear memory outside the Go heap: it
// does not drive the garbage collector, costs only the pages that were touched,
// never moves when it grows, and goes back to the system when the instance is
// closed.
//
// kept is where the memory is told to: wazero does not free it when a module
// fails to start.
func withMemory(ctx context.Context, kept *experimental.LinearMemory) context.Context {
	return experimental.WithMemoryAllocator(ctx, experimental.MemoryAllocatorFunc(func(start, most uint64) experimental.LinearMemory {
		*kept = newMapping(start, most)
		return *kept
	}))
}

// mapping is linear memory in an anonymous mapping that reserves the maximum
// at once and makes it accessible as the guest grows.
type mapping struct {
	all  []byte // the reservation
	size uint64 // accessible
}

func newMapping(_, max uint64) experimental.LinearMemory {
	if max == 0 {
		return &heapMemory{}
	}
	all, err := unix.Mmap(-1, 0, int(max), unix.PROT_NONE, unix.MAP_PRIVATE|unix.MAP_ANON|unix.MAP_NORESERVE)
	if err != nil {
		return &heapMemory{max: max}
	}
	return &mapping{all: all}
}

// Reallocate implements experimental.LinearMemory; nil refuses.
func (m *mapping) Reallocate(size uint64) []byte {
	if size > uint64(len(m.all)) {
		return nil
	}
	if rounded := roundToPages(size); rounded > m.size {
		if err := unix.Mprotect(m.all[m.size:rounded], unix.PROT_READ|unix.PROT_WRITE); err != nil {
			return nil
		}
		m.size = rounded
	}
	return m.all[:size:m.size]
}

// roundToPages rounds up to pages of WebAssembly, which are whole pages of
// every processor cleat runs on.
func roundToPages(n uint64) uint64 { return (n + pageSize - 1) &^ uint64(pageSize-1) }

// Free implements experimental.LinearMemory.
func (m *mapping) Free() {
	if m.all == nil {
		return // a second time
	}
	// The address and length are those of Mmap, so this cannot fail.
	_ = unix.Munmap(m.all)
	m.all, m.size = nil, 0
}

// heapMemory is what an instance gets when the system grants no mapping:
// wazero cannot be told that there is no memory at all.
type heapMemory struct {
	max  uint64
	data []byte
}

// Reallocate implements experimental.LinearMemory; nil refuses.
func (m *heapMemory) Reallocate(size uint64) []byte {
	if size > m.max {
		return nil
	}
	if grow := int(size) - len(m.data); grow > 0 {
		m.data = append(m.data, make([]byte, grow)...)
	}
	return m.data[:size]
}

// Free implements experimental.LinearMemory.
func (m *heapMemory) Free() { m.data = nil }
