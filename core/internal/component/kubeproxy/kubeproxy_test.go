package kubeproxy

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func testConfig(extra ...string) *config.Config {
	return &config.Config{Options: config.Options{NodeName: "n1", KubeProxyArg: extra}}
}

func always() (bool, error) { return true, nil }

func TestArgs(t *testing.T) {
	cfg := testConfig()
	cfg.ClusterCIDR = []string{"10.42.0.0/16", "fd01::/48"}
	got := slices.DeleteFunc(Args(cfg, "/proxy.kubeconfig"), func(a string) bool {
		return strings.HasPrefix(a, "--conntrack-") // depends on the machine, see below
	})
	want := []string{
		"--cluster-cidr=10.42.0.0/16,fd01::/48",
		"--healthz-bind-address=127.0.0.1:10256",
		"--hostname-override=n1",
		"--kubeconfig=/proxy.kubeconfig",
		"--metrics-bind-address=127.0.0.1:10249",
		"--profiling=false",
		"--proxy-mode=nftables",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMode(t *testing.T) {
	for _, tt := range []struct {
		extra []string
		want  string
	}{
		{nil, "nftables"},
		{[]string{"profiling=true"}, "nftables"},
		{[]string{"proxy-mode=iptables"}, "iptables"},
		{[]string{"--proxy-mode=iptables"}, "iptables"},
	} {
		cfg := testConfig(tt.extra...)
		if got := Mode(cfg); got != tt.want {
			t.Errorf("%q: mode %q, want %q", tt.extra, got, tt.want)
		}
		if args := Args(cfg, "/k"); !slices.Contains(args, "--proxy-mode="+tt.want) {
			t.Errorf("%q: --proxy-mode=%s is missing in %q", tt.extra, tt.want, args)
		}
	}
}

func TestConntrackArgs(t *testing.T) {
	file := filepath.Join(t.TempDir(), "nf_conntrack_max")
	want := map[string]string{
		"conntrack-max-per-core": "0", "conntrack-min": "0",
		"conntrack-tcp-timeout-established": "0s", "conntrack-tcp-timeout-close-wait": "0s",
	}
	if diff := cmp.Diff(want, conntrackArgs(file)); diff != "" {
		t.Errorf("not there to be written: -want +got:\n%s", diff)
	}
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if got := conntrackArgs(file); got != nil {
		t.Errorf("writable: got %v, want kube-proxy's own", got)
	}
}

const (
	started = `{"lastUpdated":"0001-01-01T00:00:00Z","currentTime":"2026-01-02T03:04:05Z","nodeEligible":true,"status":{}}`
	queued  = `{"status":{"IPv4":{"lastUpdated":"0001-01-01T00:00:00Z","healthy":true}}}`
	written = `{"lastUpdated":"2026-01-02T03:04:05Z","currentTime":"2026-01-02T03:04:05Z","nodeEligible":true,` +
		`"status":{"IPv4":{"lastUpdated":"2026-01-02T03:04:05Z","currentTime":"2026-01-02T03:04:05Z","healthy":true},` +
		`"IPv6":{"lastUpdated":"0001-01-01T00:00:00Z","healthy":true}}}`
)

// serve has the component ask a server of the test instead of kube-proxy.
func serve(t *testing.T, c *Component, handle http.HandlerFunc) {
	t.Helper()
	server := httptest.NewServer(handle)
	t.Cleanup(server.Close)
	c.probe = healthprobe.New(server.URL, nil)
}

func TestSynced(t *testing.T) {
	for _, tt := range []struct {
		name, body string
		code       int
		want       string // in the error, "" is none
	}{
		{"just started", started, http.StatusOK, "no service rules written yet"},
		{"nothing written", queued, http.StatusOK, "no service rules written yet"},
		{"one family written", written, http.StatusOK, ""},
		{"unwell", written, http.StatusServiceUnavailable, "503"},
		{"not JSON", "ok", http.StatusOK, "invalid character"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(always, nil)
			serve(t, c, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.code)
				_, _ = w.Write([]byte(tt.body))
			})
			err := c.synced(t.Context())
			if tt.want == "" {
				if err != nil {
					t.Errorf("got %v, want ready", err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}

func TestReadyWhenRulesAreWritten(t *testing.T) {
	var asked atomic.Int32
	c := New(always, func(ctx context.Context) error {
		<-ctx.Done()
		return nil
	})
	serve(t, c, func(w http.ResponseWriter, _ *http.Request) {
		body := started
		if asked.Add(1) > 2 {
			body = written
		}
		_, _ = w.Write([]byte(body))
	})
	stop := kerneltest.Run(t, c)
	if got := asked.Load(); got < 3 {
		t.Errorf("ready after %d answers, the first two of which said that nothing is written", got)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFailureIsTheUnits(t *testing.T) {
	failure := errors.New("no nftables")
	c := New(always, func(context.Context) error { return failure })
	serve(t, c, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if err := c.Run(t.Context(), func() { t.Error("ready was called") }); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}

func TestClusterWithoutKubeProxy(t *testing.T) {
	c := New(func() (bool, error) { return false, nil }, func(context.Context) error {
		t.Error("it was started")
		return nil
	})
	stop := kerneltest.Run(t, c)
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("unhealthy: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}
