package controllermanager

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
)

func TestArgs(t *testing.T) {
	cfg := &config.Config{Options: config.Options{
		ClusterCIDR: []string{"10.42.0.0/16", "fd01::/48"}, ServiceCIDR: []string{"10.43.0.0/16", "fd02::/112"},
	}}
	files := Files{
		Kubeconfig: "/c.kubeconfig", ServiceAccountKey: "/service.key",
		ServerCA: "/server-ca.crt", ServerCAKey: "/server-ca.key", ClientCA: "/client-ca.crt", ClientCAKey: "/client-ca.key",
		ServingCert: "/serving.crt", ServingKey: "/serving.key",
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
		"--tls-cert-file=/serving.crt",
		"--tls-private-key-file=/serving.key",
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
