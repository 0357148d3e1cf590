package loadbalancer

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics tells of the pool when it is scraped, and counts dials.
type metrics struct {
	pool          *pool
	health, conns *prometheus.Desc
	dials         *prometheus.HistogramVec
}

func newMetrics(p *pool) *metrics {
	return &metrics{
		pool:   p,
		health: prometheus.NewDesc("cleat_loadbalancer_server_health", "1 for the state the server is in.", []string{"server", "state"}, nil),
		conns:  prometheus.NewDesc("cleat_loadbalancer_server_connections", "Connections to the server.", []string{"server"}, nil),
		dials: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "cleat_loadbalancer_dial_duration_seconds", Help: "How long connecting to a server took.",
			Buckets: []float64{.001, .005, .02, .1, .5, 1},
		}, []string{"status"}),
	}
}

// Metrics are the balancer's, for Prometheus.
func (c *Component) Metrics() prometheus.Collector { return c.metrics }

func (m *metrics) dialed(err error, took time.Duration) {
	status := "success"
	if err != nil {
		status = "error"
	}
	m.dials.WithLabelValues(status).Observe(took.Seconds())
}

// Describe is prometheus.Collector's.
func (m *metrics) Describe(out chan<- *prometheus.Desc) {
	out <- m.health
	out <- m.conns
	m.dials.Describe(out)
}

// Collect is prometheus.Collector's.
func (m *metrics) Collect(out chan<- prometheus.Metric) {
	for _, s := range m.pool.look() {
		for _, state := range []State{Unchecked, Healthy, Failed} {
			value := 0.0
			if s.state == state {
				value = 1
			}
			out <- prometheus.MustNewConstMetric(m.health, prometheus.GaugeValue, value, s.address, string(state))
		}
		out <- prometheus.MustNewConstMetric(m.conns, prometheus.GaugeValue, float64(s.conns), s.address)
	}
	m.dials.Collect(out)
}
