package pluginhost

import (
	"math/bits"
	"sync/atomic"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// counters are a plugin's running totals.
type counters struct {
	calls, denies, mutations atomic.Uint64
	errors, traps, timeouts  atomic.Uint64
	poolMisses, hostCalls    atomic.Uint64
	refused, recycled        atomic.Uint64
	bytes, faults            atomic.Uint64
	shadowed, differed       atomic.Uint64
	latency                  histogram
	memoryPeak               atomic.Uint64
}

// latencyBuckets is how many buckets a latency histogram has; the first ends at
// latencyFloor and each ends at twice the one before, the last has no end.
const (
	latencyBuckets = 26
	latencyFloor   = 500 * time.Nanosecond
)

// histogram counts durations. It is for many writers at once.
type histogram struct {
	buckets [latencyBuckets]atomic.Uint64
	sum     atomic.Int64 // nanoseconds
}

func (h *histogram) observe(d time.Duration) {
	n := bits.Len64(uint64(max(d, 1)-1) / uint64(latencyFloor))
	h.buckets[min(n, latencyBuckets-1)].Add(1)
	h.sum.Add(int64(d))
}

// Latency is a histogram of call durations.
type Latency struct {
	// Counts are the calls of each bucket; bucket n ends at LatencyBound(n) and
	// the last has no end.
	Counts [latencyBuckets]uint64
	Sum    time.Duration
}

// LatencyBound returns where a bucket ends.
func LatencyBound(bucket int) time.Duration { return latencyFloor << bucket }

func (h *histogram) read() Latency {
	l := Latency{Sum: time.Duration(h.sum.Load())}
	for i := range h.buckets {
		l.Counts[i] = h.buckets[i].Load()
	}
	return l
}

// Count returns the number of calls.
func (l *Latency) Count() uint64 {
	var n uint64
	for _, c := range l.Counts {
		n += c
	}
	return n
}

// Quantile estimates the duration that the share q (0 to 1) of the calls did
// not exceed; 0 without calls. It is exact to the bucket.
func (l *Latency) Quantile(q float64) time.Duration {
	rank := q * float64(l.Count())
	if rank == 0 {
		return 0
	}
	below := 0.0
	for i, c := range l.Counts {
		if c == 0 || below+float64(c) < rank {
			below += float64(c)
			continue
		}
		from := time.Duration(0)
		if i > 0 {
			from = LatencyBound(i - 1)
		}
		return from + time.Duration((rank-below)/float64(c)*float64(LatencyBound(i)-from))
	}
	return LatencyBound(latencyBuckets - 1)
}

// PluginStats is what one plugin did since it was opened.
type PluginStats struct {
	Name       string
	Version    string
	SHA256     string
	Points     []hostabi.Point
	Generation int  // of the host, when the plugin was opened
	Shadow     bool // runs beside another of its name and decides nothing

	Calls      uint64 // hooks entered
	Denies     uint64 // denials by the plugin itself
	Mutations  uint64 // calls that changed an object
	Faults     uint64 // calls that came to no answer, whatever the reason
	Errors     uint64 // hooks that returned an error number or a malformed answer
	Traps      uint64 // hooks that crashed
	Timeouts   uint64 // hooks that met their deadline
	PoolMisses uint64 // calls that had to start an instance first
	HostCalls  uint64 // host functions the guest called
	Bytes      uint64 // that host functions moved to and from the guest
	Refused    uint64 // calls the circuit breaker kept out
	Recycled   uint64 // instances closed because of a fault or their memory
	Shadowed   uint64 // calls of a shadow that were compared
	Differed   uint64 // of those, the ones with another outcome

	Latency    Latency // in hooks, host functions included
	MemoryPeak uint64  // bytes, the largest instance seen
	Memory     uint64  // bytes of linear memory now, idle instances only
	Idle, Busy int     // instances now
	Breaker    BreakerState
	// CompileTime is how long the plugin took to compile, or to load from the
	// cache when CacheHit.
	CompileTime time.Duration
	CacheHit    bool
}

// Stats returns the totals of every plugin, in lock order, shadows last.
func (h *Host) Stats() []PluginStats {
	g := h.current.Load()
	all := make([]PluginStats, 0, len(g.plugins)+len(g.shadows))
	for _, p := range g.all() {
		all = append(all, p.read())
	}
	return all
}

// Disabled returns the lock's entries that are left out, in lock order. The
// slice is shared; do not write to it.
func (h *Host) Disabled() []LockedPlugin { return h.current.Load().disabled }

func (p *plugin) read() PluginStats {
	c := &p.stats
	s := PluginStats{
		Name: p.locked.Name, Version: p.locked.Version, SHA256: p.locked.SHA256, Points: p.locked.Points,
		Generation: p.generation, Shadow: p.locked.Shadow,
		Calls: c.calls.Load(), Denies: c.denies.Load(), Mutations: c.mutations.Load(), Faults: c.faults.Load(),
		Errors: c.errors.Load(), Traps: c.traps.Load(), Timeouts: c.timeouts.Load(),
		PoolMisses: c.poolMisses.Load(), HostCalls: c.hostCalls.Load(), Bytes: c.bytes.Load(),
		Refused: c.refused.Load(), Recycled: c.recycled.Load(),
		Shadowed: c.shadowed.Load(), Differed: c.differed.Load(),
		Latency: c.latency.read(), MemoryPeak: c.memoryPeak.Load(),
		Breaker: p.breaker.current(), CompileTime: p.compileTime, CacheHit: p.cacheHit,
	}
	s.Idle, s.Busy = p.pool.count()
	s.Memory = p.pool.sum(func(in *instance) uint64 { return uint64(in.mem.Size()) })
	return s
}
