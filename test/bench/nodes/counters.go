package nodes

import (
	"fmt"
	"strconv"
	"strings"
)

// counters are what the server says of itself in /metrics.
type counters struct {
	Requests   float64 // that the API server has answered since it began
	Watches    float64 // that are open
	Goroutines float64
	Files      float64 // open file descriptors
	Heap       float64 // bytes that the last collection left, garbage not counted
}

// readCounters reads the text form of /metrics. What is missing is an error.
func readCounters(text string) (counters, error) {
	var c counters
	wanted := []struct {
		metric, label string
		into          *float64
	}{
		{"apiserver_request_total", "", &c.Requests},
		{"apiserver_longrunning_requests", `verb="WATCH"`, &c.Watches},
		{"go_goroutines", "", &c.Goroutines},
		{"process_open_fds", "", &c.Files},
		{"go_gc_heap_live_bytes", "", &c.Heap},
	}
	found := map[string]bool{}
	for line := range strings.Lines(text) {
		for _, w := range wanted {
			rest, ok := strings.CutPrefix(line, w.metric)
			if !ok || !strings.HasPrefix(rest, "{") && !strings.HasPrefix(rest, " ") || !strings.Contains(rest, w.label) {
				continue
			}
			value, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(strings.TrimSpace(rest), ' ')+1:]), 64)
			if err != nil {
				return c, fmt.Errorf("/metrics: %q: %w", line, err)
			}
			*w.into += value
			found[w.metric] = true
		}
	}
	for _, w := range wanted {
		if !found[w.metric] {
			return c, fmt.Errorf("/metrics has no %s %s", w.metric, w.label)
		}
	}
	return c, nil
}
