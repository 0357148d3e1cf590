package serverstatus

import (
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/cleat-dev/cleat/core/kernel"
)

// collector reads a Status when it is scraped.
type collector struct {
	status                    func() Status
	info, state               *prometheus.Desc
	ready, readySeconds       *prometheus.Desc
	certificateEnds, addonsOK *prometheus.Desc
}

// Metrics returns a server's own metrics for Prometheus.
func Metrics(status func() Status) prometheus.Collector {
	return &collector{
		status: status,
		info:   prometheus.NewDesc("cleat_info", "1, with the versions.", []string{"version", "kubernetes"}, nil),
		state:  prometheus.NewDesc("cleat_state", "1 for the state the server is in.", []string{"state"}, nil),
		ready:  prometheus.NewDesc("cleat_unit_ready", "1 while the unit is ready.", []string{"unit"}, nil),
		readySeconds: prometheus.NewDesc("cleat_unit_ready_seconds",
			"Seconds from the start of the unit until it was ready for the first time.", []string{"unit"}, nil),
		certificateEnds: prometheus.NewDesc("cleat_certificate_expiry_timestamp_seconds", "When a certificate ends.", []string{"file"}, nil),
		addonsOK:        prometheus.NewDesc("cleat_addon_applied", "1 if the last attempt at the file of the manifests directory succeeded.", []string{"addon"}, nil),
	}
}

// Describe implements prometheus.Collector.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{c.info, c.state, c.ready, c.readySeconds, c.certificateEnds, c.addonsOK} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	s := c.status()
	gauge(c.info, 1, s.Version, s.Kubernetes)
	for _, state := range []State{StateStarting, StateReady, StateDegraded, StateStopping} {
		gauge(c.state, truth(s.State == state), string(state))
	}
	for _, u := range s.Units {
		gauge(c.ready, truth(u.State == kernel.StateReady), u.Unit)
		if u.ReadyAfterMS != nil {
			gauge(c.readySeconds, (time.Duration(*u.ReadyAfterMS) * time.Millisecond).Seconds(), u.Unit)
		}
	}
	for _, cert := range s.Certificates {
		if !cert.NotAfter.IsZero() {
			gauge(c.certificateEnds, float64(cert.NotAfter.Unix()), strings.ToValidUTF8(cert.File, "?"))
		}
	}
	for _, a := range s.Addons {
		gauge(c.addonsOK, truth(a.State == AddonApplied), a.Name)
	}
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
