package scheduler

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
)

func TestArgs(t *testing.T) {
	cfg := &config.Config{}
	files := Files{Kubeconfig: "/s.kubeconfig", ServingCert: "/serving.crt", ServingKey: "/serving.key"}
	want := []string{
		"--authentication-kubeconfig=/s.kubeconfig",
		"--authorization-kubeconfig=/s.kubeconfig",
		"--bind-address=127.0.0.1",
		"--kube-api-burst=1000",
		"--kube-api-qps=500",
		"--kubeconfig=/s.kubeconfig",
		"--leader-elect=false",
		"--profiling=false",
		"--secure-port=10259",
		"--tls-cert-file=/serving.crt",
		"--tls-private-key-file=/serving.key",
	}
	if diff := cmp.Diff(want, Args(cfg, files)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	cfg.KubeSchedulerArg = []string{"profiling=true"}
	if got := Args(cfg, files); !slices.Contains(got, "--profiling=true") || slices.Contains(got, "--profiling=false") {
		t.Errorf("the operator's value does not replace ours: %q", got)
	}
}
