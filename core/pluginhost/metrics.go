package pluginhost

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics returns the plugins' totals for Prometheus, under the labels plugin,
// version and shadow.
func (h *Host) Metrics() prometheus.Collector { return newCollector(h.Stats) }

// collector reads the totals when it is scraped.
type collector struct {
	stats    func() []PluginStats
	counters []counterMetric
	gauges   []gaugeMetric
	latency  *prometheus.Desc
	breaker  *prometheus.Desc
}

type counterMetric struct {
	desc *prometheus.Desc
	read func(*PluginStats) uint64
}

type gaugeMetric struct {
	desc *prometheus.Desc
	read func(*PluginStats) float64
}

func newCollector(stats func() []PluginStats) *collector {
	desc := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("cleat_plugin_"+name, help, append([]string{"plugin", "version", "shadow"}, labels...), nil)
	}
	counter := func(name, help string, read func(*PluginStats) uint64) counterMetric {
		return counterMetric{desc(name, help), read}
	}
	return &collector{
		stats: stats,
		counters: []counterMetric{
			counter("calls_total", "Hooks entered.", func(s *PluginStats) uint64 { return s.Calls }),
			counter("denies_total", "Denials by the plugin.", func(s *PluginStats) uint64 { return s.Denies }),
			counter("mutations_total", "Calls that changed an object.", func(s *PluginStats) uint64 { return s.Mutations }),
			counter("faults_total", "Calls that came to no answer, whatever the reason.", func(s *PluginStats) uint64 { return s.Faults }),
			counter("errors_total", "Hooks that returned an error number or a malformed answer.", func(s *PluginStats) uint64 { return s.Errors }),
			counter("traps_total", "Hooks that crashed.", func(s *PluginStats) uint64 { return s.Traps }),
			counter("timeouts_total", "Hooks that met their deadline.", func(s *PluginStats) uint64 { return s.Timeouts }),
			counter("refused_total", "Calls that the circuit breaker kept out.", func(s *PluginStats) uint64 { return s.Refused }),
			counter("pool_misses_total", "Calls that had to start an instance first.", func(s *PluginStats) uint64 { return s.PoolMisses }),
			counter("recycled_total", "Instances closed because of a fault or their memory.", func(s *PluginStats) uint64 { return s.Recycled }),
			counter("host_calls_total", "Host functions that the guest called.", func(s *PluginStats) uint64 { return s.HostCalls }),
			counter("host_call_bytes_total", "Bytes that host functions moved to and from the guest.", func(s *PluginStats) uint64 { return s.Bytes }),
			counter("shadow_compared_total", "Calls of a shadow that were compared.", func(s *PluginStats) uint64 { return s.Shadowed }),
			counter("shadow_differed_total", "Compared calls of a shadow with another outcome.", func(s *PluginStats) uint64 { return s.Differed }),
		},
		gauges: []gaugeMetric{
			{desc("memory_bytes", "Linear memory of idle instances."), func(s *PluginStats) float64 { return float64(s.Memory) }},
			{desc("memory_peak_bytes", "Linear memory of the largest instance seen."), func(s *PluginStats) float64 { return float64(s.MemoryPeak) }},
			{desc("instances_idle", "Instances that wait for a call."), func(s *PluginStats) float64 { return float64(s.Idle) }},
			{desc("instances_busy", "Instances at work."), func(s *PluginStats) float64 { return float64(s.Busy) }},
			{desc("generation", "The host's generation in which the plugin was opened."), func(s *PluginStats) float64 { return float64(s.Generation) }},
		},
		latency: desc("call_duration_seconds", "Time in hooks, host functions included."),
		breaker: desc("breaker_state", "1 for the state the circuit breaker is in.", "state"),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range c.counters {
		out <- m.desc
	}
	for _, m := range c.gauges {
		out <- m.desc
	}
	out <- c.latency
	out <- c.breaker
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	for _, s := range c.stats() {
		labels := []string{s.Name, s.Version, strconv.FormatBool(s.Shadow)}
		for _, m := range c.counters {
			out <- prometheus.MustNewConstMetric(m.desc, prometheus.CounterValue, float64(m.read(&s)), labels...)
		}
		for _, m := range c.gauges {
			out <- prometheus.MustNewConstMetric(m.desc, prometheus.GaugeValue, m.read(&s), labels...)
		}
		buckets, total := map[float64]uint64{}, uint64(0)
		for i, n := range s.Latency.Counts {
			total += n
			if i < latencyBuckets-1 {
				buckets[LatencyBound(i).Seconds()] = total
			}
		}
		out <- prometheus.MustNewConstHistogram(c.latency, total, s.Latency.Sum.Seconds(), buckets, labels...)
		for _, state := range []BreakerState{BreakerClosed, BreakerOpen, BreakerHalfOpen} {
			value := 0.0
			if s.Breaker == state {
				value = 1
			}
			out <- prometheus.MustNewConstMetric(c.breaker, prometheus.GaugeValue, value, append(labels[:3:3], string(state))...)
		}
	}
}
