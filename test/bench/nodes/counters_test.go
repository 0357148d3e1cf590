package nodes

import (
	"strings"
	"testing"
)

const scraped = `# HELP apiserver_request_total [STABLE] Counter of apiserver requests.
# TYPE apiserver_request_total counter
apiserver_request_total{code="200",resource="nodes",verb="GET"} 12
apiserver_request_total{code="200",resource="leases",verb="PUT"} 1.5e+02
apiserver_request_total_of_something_else 1000
apiserver_longrunning_requests{resource="nodes",verb="WATCH"} 7
apiserver_longrunning_requests{resource="pods",verb="WATCH"} 3
apiserver_longrunning_requests{resource="pods",subresource="exec",verb="CONNECT"} 1
go_goroutines 2345
process_open_fds 67
go_gc_heap_live_bytes 1.234e+08
`

func TestReadCounters(t *testing.T) {
	got, err := readCounters(scraped)
	if want := (counters{Requests: 162, Watches: 10, Goroutines: 2345, Files: 67, Heap: 123.4e6}); err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	for without, want := range map[string]string{
		"process_open_fds":           "process_open_fds",
		`verb="WATCH"`:               "apiserver_longrunning_requests",
		"apiserver_request_total{co": "apiserver_request_total",
	} {
		if _, err := readCounters(strings.ReplaceAll(scraped, without, "x")); err == nil || !strings.Contains(err.Error(), "no "+want) {
			t.Errorf("without %s: %v", without, err)
		}
	}
	if _, err := readCounters(strings.Replace(scraped, "2345", "many", 1)); err == nil || !strings.Contains(err.Error(), "many") {
		t.Errorf("a value that is none: %v", err)
	}
}
