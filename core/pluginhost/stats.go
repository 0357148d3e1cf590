package pluginhost

import (
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
	inGuest                  atomic.Int64 // nanoseconds
	memoryPeak               atomic.Uint64
}

// PluginStats is what one plugin did since the host was opened.
type PluginStats struct {
	Name    string
	Version string
	Points  []hostabi.Point

	Calls      uint64 // hooks entered
	Denies     uint64 // denials by the plugin itself
	Mutations  uint64 // calls that changed an object
	Errors     uint64 // hooks that returned an error number or a malformed answer
	Traps      uint64 // hooks that crashed
	Timeouts   uint64 // hooks that met their deadline
	PoolMisses uint64 // calls that had to start an instance first
	HostCalls  uint64 // host functions the guest called
	Refused    uint64 // calls the circuit breaker kept out
	Recycled   uint64 // instances closed because of a fault or their memory

	InGuest    time.Duration // time spent in hooks, host functions included
	MemoryPeak uint64        // bytes, the largest instance seen
	Idle, Busy int           // instances now
	Breaker    BreakerState
	// CompileTime is how long the plugin took to compile, or to load from the
	// cache when CacheHit.
	CompileTime time.Duration
	CacheHit    bool
}

// Stats returns the totals of every plugin, in lock order.
func (h *Host) Stats() []PluginStats {
	all := make([]PluginStats, 0, len(h.plugins))
	for _, p := range h.plugins {
		c := &p.stats
		s := PluginStats{
			Name: p.locked.Name, Version: p.locked.Version, Points: p.locked.Points,
			Calls: c.calls.Load(), Denies: c.denies.Load(), Mutations: c.mutations.Load(),
			Errors: c.errors.Load(), Traps: c.traps.Load(), Timeouts: c.timeouts.Load(),
			PoolMisses: c.poolMisses.Load(), HostCalls: c.hostCalls.Load(),
			Refused: c.refused.Load(), Recycled: c.recycled.Load(),
			InGuest: time.Duration(c.inGuest.Load()), MemoryPeak: c.memoryPeak.Load(),
			Breaker: p.breaker.current(), CompileTime: p.compileTime, CacheHit: p.cacheHit,
		}
		s.Idle, s.Busy = p.pool.count()
		all = append(all, s)
	}
	return all
}
