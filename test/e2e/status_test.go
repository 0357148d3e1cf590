//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// serverStatus is what this test reads of `cleat status -o json`.
type serverStatus struct {
	Node, State string
	Units       []struct {
		Unit           string
		State          string
		StartedAfterMS *int64 `json:"started_after_ms"`
		ReadyAfterMS   *int64 `json:"ready_after_ms"`
	}
	Plugins []struct {
		Name, State string
		Calls       int
		P99US       float64 `json:"p99_us"`
	}
	Addons       []struct{ Name, State string }
	Certificates []struct {
		File, State string
		DaysLeft    int `json:"days_left"`
	}
	Datastore struct{ Driver string }
}

// TestStatus asks a server how it is, in every way there is.
func TestStatus(t *testing.T) {
	n := newNode(t, newLab(t), "n1")
	checkConfig(t, n, "port 6443/tcp", "free")
	n.start(t)
	testReadyzOfBoot(t, n)
	n.awaitReady(t)
	checkConfig(t, n, "ports", "cleat runs here and has them")
	watch := n.Start(t, "watch", "cleat", "status", "--watch")

	t.Run("status", func(t *testing.T) { testStatus(t, n) })
	t.Run("metrics", func(t *testing.T) { testMetrics(t, n) })
	t.Run("profiles", func(t *testing.T) { testProfiles(t, n) })

	t.Run("readyz and events", func(t *testing.T) { testReadyzAndEvents(t, n) })

	n.stop(t)
	if err := watch.Wait(t, time.Minute); err == nil {
		t.Error("the watch ended as if all were well")
	}
	if log := watch.Log(); !strings.Contains(log, " unit kubelet ready\n") || !strings.Contains(log, "cleat: the server has gone: ") {
		t.Errorf("the watch said\n%s", log)
	}

	n.serve(t)
	n.server.Signal(t, "KILL")
	if err := n.server.Wait(t, time.Minute); err == nil {
		t.Error("killed, and its status is 0")
	}
	n.serve(t)
	lab.Eventually(t, podPatience, "event StoppedUnexpectedly", func() error {
		out, err := n.Run("kubectl", "get", "events", "-n", "default", "--field-selector", "reason=StoppedUnexpectedly", "-o", "name")
		if err == nil && strings.Count(out, "event/") != 1 {
			err = fmt.Errorf("not one event: %q", out)
		}
		return err
	})
}

// testProfiles wants profiles on the local socket, and on no port.
func testProfiles(t *testing.T, n *node) {
	for _, path := range []string{"heap", "profile?seconds=1"} {
		status := n.Must(t, "curl", "-sS", "--max-time", "60", "--unix-socket", "/run/cleat/status.sock", "-o", "/tmp/profile", "-w", "%{http_code}",
			"http://cleat/debug/pprof/"+path)
		if magic := n.Must(t, "od", "-An", "-tx1", "-N2", "/tmp/profile"); status != "200" || strings.TrimSpace(magic) != "1f 8b" {
			t.Errorf("%s: status %s, and it begins with %q, want what gzip packed", path, status, magic)
		}
	}
	if out, err := n.Run("kubectl", "get", "--raw", "/debug/pprof/heap"); err == nil {
		t.Errorf("the port serves profiles: %.100q", out)
	}
}

// checkConfig wants nothing to be missing, and one row to be there.
func checkConfig(t *testing.T, n *node, name, found string) {
	t.Helper()
	var rows []struct{ Name, Result, Found string }
	if err := json.Unmarshal([]byte(n.Must(t, "cleat", "check-config", "-o", "json")), &rows); err != nil {
		t.Fatal(err)
	}
	seen := false
	for _, r := range rows {
		if r.Result == "missing" {
			t.Errorf("missing: %+v", r)
		}
		seen = seen || r.Name == name && r.Found == found
	}
	if !seen || len(rows) < 20 {
		t.Errorf("no row %q with %q: %+v", name, found, rows)
	}
}

func testStatus(t *testing.T, n *node) {
	var s serverStatus
	lab.Eventually(t, podPatience, "every addon is applied and every unit ready", func() error {
		out, err := n.Run("cleat", "status", "-o", "json")
		if err != nil {
			return err
		}
		s = serverStatus{}
		if err := json.Unmarshal([]byte(out), &s); err != nil {
			return err
		}
		if s.State != "ready" {
			return errors.New("the server is " + s.State) // on a busy machine an answer may be late
		}
		if len(s.Addons) == 0 {
			return errors.New("there is no addon")
		}
		for _, a := range s.Addons {
			if a.State != "applied" {
				return fmt.Errorf("addon %s is %s", a.Name, a.State)
			}
		}
		if path := os.Getenv("CLEAT_STATUS_SAMPLE"); path != "" {
			return os.WriteFile(path, []byte(out), 0o644)
		}
		return nil
	})
	if s.Node != "n1" || s.State != "ready" || s.Datastore.Driver != "kine" || len(s.Units) < 15 {
		t.Errorf("the server says %+v", s)
	}
	for _, u := range s.Units {
		if u.State != "ready" || u.StartedAfterMS == nil || u.ReadyAfterMS == nil {
			t.Errorf("unit %+v", u)
		}
	}
	asked := 0
	for _, p := range s.Plugins {
		if p.State != "active" && p.State != "disabled" {
			t.Errorf("plugin %+v", p)
		}
		if p.Calls > 0 && p.P99US > 0 {
			asked++
		}
	}
	if asked < 3 { // at least those for datastore, network and manifests
		t.Errorf("%d plugins were asked: %+v", asked, s.Plugins)
	}
	if len(s.Certificates) < 12 {
		t.Errorf("certificates %+v", s.Certificates)
	}
	for _, c := range s.Certificates {
		if c.State != "ok" || c.DaysLeft < 360 {
			t.Errorf("certificate %+v", c)
		}
	}
	table := n.Must(t, "cleat", "status")
	for _, section := range []string{"UNIT ", "PLUGIN ", "ADDON ", "CERTIFICATE ", "NODE "} {
		if !strings.HasPrefix(table, section) && !strings.Contains(table, "\n"+section) {
			t.Errorf("the table has no section %q:\n%s", section, table)
		}
	}
}

// families parses an answer in Prometheus' text format and wants each family and
// each series once in it.
func families(t *testing.T, what, text string) map[string]int {
	t.Helper()
	if _, err := promlint.New(strings.NewReader(text)).Lint(); err != nil {
		t.Fatalf("%s does not parse: %v", what, err)
	}
	counts, seen := map[string]int{}, map[string]bool{}
	family := ""
	for line := range strings.Lines(text) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			family, _, _ = strings.Cut(name, " ")
			if counts[family] > 0 {
				t.Errorf("%s: family twice: %s", what, family)
			}
		}
		if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
			continue
		}
		counts[family]++
		series := line[:strings.LastIndexByte(strings.TrimRight(line, "\n"), ' ')]
		if seen[series] {
			t.Errorf("%s: series twice: %s", what, series)
		}
		seen[series] = true
	}
	t.Logf("%s: %d families, %d series", what, len(counts), len(seen))
	return counts
}

func testMetrics(t *testing.T, n *node) {
	api := families(t, "API server", n.kubectl(t, "get", "--raw", "/metrics"))
	for _, name := range []string{
		"apiserver_request_total", "scheduler_schedule_attempts_total", "workqueue_adds_total", "kubelet_node_name",
		"kubeproxy_sync_proxy_rules_duration_seconds", "process_cpu_seconds_total",
		"cleat_unit_ready", "cleat_unit_ready_seconds", "cleat_plugin_calls_total", "cleat_certificate_expiry_timestamp_seconds",
	} {
		if api[name] == 0 {
			t.Errorf("/metrics of the API server lacks %s", name)
		}
	}
	kubelet := families(t, "kubelet", n.kubectl(t, "get", "--raw", "/api/v1/nodes/n1/proxy/metrics"))
	twice := 0
	for name := range kubelet {
		if api[name] > 0 {
			twice++
		}
	}
	t.Logf("%d families of the kubelet are the API server's too", twice)
	for _, path := range []string{"cadvisor", "resource", "probes"} {
		own := families(t, path, n.kubectl(t, "get", "--raw", "/api/v1/nodes/n1/proxy/metrics/"+path))
		for name := range own {
			if api[name] > 0 {
				t.Logf("%s is in /metrics/%s and in the API server's", name, path)
			}
		}
	}
}

// readyz asks without credentials, as a load balancer does.
func readyz(n *node, query string) (status, body string, err error) {
	out, err := n.Run("curl", "-sS", "-k", "--max-time", "60", "-w", "%{http_code}", "https://127.0.0.1:6443/readyz"+query)
	at := max(len(out)-3, 0)
	return out[at:], out[:at], err
}

// testReadyzOfBoot asks from the first moment on until the server is ready, and
// wants to be told of what it waits for.
func testReadyzOfBoot(t *testing.T, n *node) {
	early, late := false, false
	lab.Eventually(t, bootPatience, "/readyz is ok", func() error {
		status, body, err := readyz(n, "")
		switch {
		case err != nil:
			return err // no port yet
		case status == "200":
			return nil
		case status != "503":
			t.Errorf("/readyz: %s %s", status, body)
		}
		early = early || strings.Contains(body, "[+]unit-pki ok\n") && strings.Contains(body, "[-]unit-scheduler failed: waiting for apiserver\n")
		late = late || strings.Contains(body, "[+]unit-apiserver ok\n") && strings.Contains(body, "[-]unit-kubeproxy failed: ")
		return errors.New(body)
	})
	if !early || !late {
		t.Errorf("/readyz did not name the units before the API server was ready (%v) or after it (%v)", early, late)
	}
}

func testReadyzAndEvents(t *testing.T, n *node) {
	status, body, err := readyz(n, "?verbose")
	if err != nil || status != "200" || !strings.Contains(body, "[+]unit-kubelet ok\n") || !strings.Contains(body, "[+]etcd ok\n") {
		t.Errorf("/readyz?verbose: %s %s %v", status, body, err)
	}
	event := func(reason, text string) {
		t.Helper()
		lab.Eventually(t, podPatience, "event "+reason, func() error {
			out, err := n.Run("kubectl", "get", "events", "-n", "default", "--field-selector", "involvedObject.kind=Node,involvedObject.name=n1,reason="+reason)
			// On a busy machine there may be some of other units too.
			if err == nil && strings.Count(out, text) != 1 {
				err = fmt.Errorf("not one event with %q: %s", text, out)
			}
			return err
		})
	}
	event("ServerStarted", "units are ready")

	const manifests, hidden = "/var/lib/cleat/server/manifests", "/var/lib/cleat/server/hidden"
	n.Must(t, "mv", manifests, hidden)
	n.Must(t, "touch", manifests) // no directory
	lab.Eventually(t, podPatience, "/readyz names the deployer", func() error {
		status, body, err := readyz(n, "")
		if err == nil && (status != "503" || !strings.Contains(body, "[-]unit-deployer failed: reason withheld\n")) {
			err = errors.New(status + " " + body)
		}
		return err
	})
	if status, body, err := readyz(n, "/unit-deployer"); err != nil || status != "401" && status != "403" || strings.Contains(body, "manifests") {
		t.Errorf("anybody may read why: %s %s %v", status, body, err)
	}
	if out, err := n.Run("kubectl", "get", "--raw", "/readyz/unit-deployer"); err == nil || !strings.Contains(err.Error(), "manifests") {
		t.Errorf("the administrator is not told why: %s %v", out, err)
	}
	event("UnitUnhealthy", "unit deployer: ")
	n.Must(t, "rm", manifests)
	n.Must(t, "mv", hidden, manifests)
	event("UnitReady", "unit deployer is well again")
	lab.Eventually(t, podPatience, "/readyz is ok again", func() error {
		status, body, err := readyz(n, "")
		if err == nil && status != "200" {
			err = errors.New(status + " " + body)
		}
		return err
	})
	if out, err := n.Run("kubectl", "get", "events", "-n", "default", "--field-selector", "reason=StoppedUnexpectedly", "-o", "name"); err != nil || out != "" {
		t.Errorf("the first start tells of a crash: %s %v", out, err)
	}
}
