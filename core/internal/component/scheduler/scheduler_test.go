package scheduler

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
)

func TestArgs(t *testing.T) {
	cfg := &config.Config{}
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
	}
	if diff := cmp.Diff(want, Args(cfg, "/s.kubeconfig")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	cfg.KubeSchedulerArg = []string{"profiling=true"}
	if got := Args(cfg, "/s.kubeconfig"); !slices.Contains(got, "--profiling=true") || slices.Contains(got, "--profiling=false") {
		t.Errorf("the operator's value does not replace ours: %q", got)
	}
}
