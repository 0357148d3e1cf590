// Package controllermanager is the unit of kube-controller-manager.
package controllermanager

import (
	"context"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/elected"
)

const healthzURL = "https://127.0.0.1:10257/healthz"

// Files are the paths the controller manager reads.
type Files struct {
	Kubeconfig        string
	ServiceAccountKey string
	ServerCA          string // goes into every service account's token secret and kube-root-ca.crt
	ClientCA          string // signs client certificates asked for by CSR objects
	ClientCAKey       string
	ServerCAKey       string // signs kubelet serving certificates

	ServingCert, ServingKey string // of its port on loopback
}

// Args are the arguments of the embedded controller manager. Leader election
// is not among them, see the scheduler's.
func Args(cfg *config.Config, f Files) []string {
	args := map[string]string{
		"allocate-node-cidrs":       "true",
		"authentication-kubeconfig": f.Kubeconfig,
		"authorization-kubeconfig":  f.Kubeconfig,
		"bind-address":              "127.0.0.1",
		"cluster-cidr":              strings.Join(cfg.ClusterCIDR, ","),
		"cluster-signing-kube-apiserver-client-cert-file": f.ClientCA,
		"cluster-signing-kube-apiserver-client-key-file":  f.ClientCAKey,
		"cluster-signing-kubelet-client-cert-file":        f.ClientCA,
		"cluster-signing-kubelet-client-key-file":         f.ClientCAKey,
		"cluster-signing-kubelet-serving-cert-file":       f.ServerCA,
		"cluster-signing-kubelet-serving-key-file":        f.ServerCAKey,
		"cluster-signing-legacy-unknown-cert-file":        f.ServerCA,
		"cluster-signing-legacy-unknown-key-file":         f.ServerCAKey,
		"configure-cloud-routes":                          "false",
		"controllers":                                     "*,tokencleaner",
		"kube-api-burst":                                  "1000",
		"kube-api-qps":                                    "500", // at upstream's 20 a cold start waits seconds for its own service accounts
		"kubeconfig":                                      f.Kubeconfig,
		"leader-elect":                                    "false",
		"profiling":                                       "false",
		"root-ca-file":                                    f.ServerCA,
		"secure-port":                                     "10257",
		"service-account-private-key-file":                f.ServiceAccountKey,
		"service-cluster-ip-range":                        strings.Join(cfg.ServiceCIDR, ","),
		"tls-cert-file":                                   f.ServingCert,
		"tls-private-key-file":                            f.ServingKey,
		"use-service-account-credentials":                 "true",
	}
	return componentargs.Merge(args, cfg.KubeControllerManagerArg)
}

// New returns the unit; run runs the controllers until its context is done. It
// is ready when they answer, or while another server runs them, which standby
// tells.
func New(run func(ctx context.Context) error, standby func() bool) *elected.Component {
	return elected.New(healthzURL, run, standby)
}
