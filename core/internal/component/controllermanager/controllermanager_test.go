package controllermanager

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestArgs(t *testing.T) {
	cfg := &config.Config{Options: config.Options{
		ClusterCIDR: []string{"10.42.0.0/16", "fd01::/48"}, ServiceCIDR: []string{"10.43.0.0/16", "fd02::/112"},
	}}
	files := Files{
		Kubeconfig: "/c.kubeconfig", ServiceAccountKey: "/service.key",
		ServerCA: "/server-ca.crt", ServerCAKey: "/server-ca.key", ClientCA: "/client-ca.crt", ClientCAKey: "/client-ca.key",
	}
	want := []string{
		"--allocate-node-cidrs=true",
		"--authentication-kubeconfig=/c.kubeconfig",
		"--authorization-kubeconfig=/c.kubeconfig",
		"--bind-address=127.0.0.1",
		"--cluster-cidr=10.42.0.0/16,fd01::/48",
		"--cluster-signing-kube-apiserver-client-cert-file=/client-ca.crt",
		"--cluster-signing-kube-apiserver-client-key-file=/client-ca.key",
		"--cluster-signing-kubelet-client-cert-file=/client-ca.crt",
		"--cluster-signing-kubelet-client-key-file=/client-ca.key",
		"--cluster-signing-kubelet-serving-cert-file=/server-ca.crt",
		"--cluster-signing-kubelet-serving-key-file=/server-ca.key",
		"--cluster-signing-legacy-unknown-cert-file=/server-ca.crt",
		"--cluster-signing-legacy-unknown-key-file=/server-ca.key",
		"--configure-cloud-routes=false",
		"--controllers=*,tokencleaner",
		"--kube-api-burst=1000",
		"--kube-api-qps=500",
		"--kubeconfig=/c.kubeconfig",
		"--leader-elect=false",
		"--profiling=false",
		"--root-ca-file=/server-ca.crt",
		"--secure-port=10257",
		"--service-account-private-key-file=/service.key",
		"--service-cluster-ip-range=10.43.0.0/16,fd02::/112",
		"--use-service-account-credentials=true",
	}
	if diff := cmp.Diff(want, Args(cfg, files)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	cfg.KubeControllerManagerArg = []string{"controllers=*"}
	if got := Args(cfg, files); !slices.Contains(got, "--controllers=*") || slices.Contains(got, "--controllers=*,tokencleaner") {
		t.Errorf("the operator's value does not replace ours: %q", got)
	}
}

// unit is the component, asking a server of the test.
func unit(t *testing.T, run func(ctx context.Context) error, standby func() bool, handle http.HandlerFunc) *Component {
	t.Helper()
	server := httptest.NewTLSServer(handle)
	t.Cleanup(server.Close)
	c := New(run, standby)
	c.probe = healthprobe.New(server.URL, nil)
	return c
}

func untilDone(ctx context.Context) error {
	<-ctx.Done()
	return nil
}

func TestReadyWhenItAnswers(t *testing.T) {
	var asked atomic.Int32
	var unwell atomic.Bool
	c := unit(t, untilDone, func() bool { return false }, func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 || unwell.Load() {
			http.Error(w, "[-]informers failed: not filled", http.StatusInternalServerError)
		}
	})
	stop := kerneltest.Run(t, c)
	if got := asked.Load(); got < 3 {
		t.Errorf("ready after %d answers, the first two of which were failures", got)
	}
	unwell.Store(true)
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "informers failed") {
		t.Errorf("Check: got %v, want what it complains about", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestStandbyIsWell(t *testing.T) {
	c := unit(t, untilDone, func() bool { return true }, func(w http.ResponseWriter, _ *http.Request) {
		t.Error("asked what does not run")
	})
	stop := kerneltest.Run(t, c)
	if err := c.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestFailureIsTheUnits(t *testing.T) {
	failure := errors.New("no kubeconfig")
	c := unit(t, func(context.Context) error { return failure }, func() bool { return false }, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	if err := c.Run(t.Context(), func() { t.Error("ready was called") }); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}
