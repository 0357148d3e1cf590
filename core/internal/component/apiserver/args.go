package apiserver

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
)

// Files are the paths the API server reads; units before it write them.
type Files struct {
	Serving         Pair
	KubeletClient   Pair   // towards kubelets
	ProxyClient     Pair   // the aggregator's, signed by RequestHeaderCA
	ServerCA        string // signs the kubelets' serving certificates
	ClientCA        string
	RequestHeaderCA string

	ServiceAccountKey    string
	AuthenticationConfig string // written by this unit
}

// Pair is a certificate's file and its key's.
type Pair struct{ Cert, Key string }

// foreign are the flags whose meaning another option of cleat has, with the
// option to use. Passed on, they would be accepted and do nothing.
var foreign = map[string]string{
	"advertise-address":        "--advertise-address",
	"bind-address":             "--bind-address",
	"etcd-servers":             "--datastore-endpoint",
	"secure-port":              "--https-listen-port",
	"service-cluster-ip-range": "--service-cidr",
	"service-node-port-range":  "--service-node-port-range",
	"tls-cert-file":            "--tls-san, or put your own authorities into server/tls before the first start",
	"tls-private-key-file":     "--tls-san, or put your own authorities into server/tls before the first start",
}

// Args are the arguments of the embedded API server. Those of the datastore
// are not among them: they are known when the datastore is ready.
func Args(cfg *config.Config, f Files) ([]string, error) {
	for _, arg := range cfg.KubeAPIServerArg {
		key, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if instead, ok := foreign[key]; ok {
			return nil, fmt.Errorf("--kube-apiserver-arg %s has no effect here; use %s", key, instead)
		}
	}
	args := map[string]string{
		"advertise-address":                  cfg.AdvertiseAddress,
		"allow-privileged":                   "true",
		"authorization-mode":                 "Node,RBAC",
		"bind-address":                       cfg.BindAddress,
		"client-ca-file":                     f.ClientCA,
		"enable-admission-plugins":           "NodeRestriction",
		"enable-bootstrap-token-auth":        "true",
		"etcd-servers":                       "unix://set-when-the-datastore-is-ready",
		"kubelet-certificate-authority":      f.ServerCA,
		"kubelet-client-certificate":         f.KubeletClient.Cert,
		"kubelet-client-key":                 f.KubeletClient.Key,
		"kubelet-preferred-address-types":    "InternalIP,ExternalIP,Hostname",
		"profiling":                          "false",
		"proxy-client-cert-file":             f.ProxyClient.Cert,
		"proxy-client-key-file":              f.ProxyClient.Key,
		"requestheader-allowed-names":        "system:auth-proxy",
		"requestheader-client-ca-file":       f.RequestHeaderCA,
		"requestheader-extra-headers-prefix": "X-Remote-Extra-",
		"requestheader-group-headers":        "X-Remote-Group",
		"requestheader-username-headers":     "X-Remote-User",
		"secure-port":                        strconv.Itoa(cfg.HTTPSListenPort),
		"service-account-issuer":             "https://kubernetes.default.svc." + cfg.ClusterDomain,
		"service-account-key-file":           f.ServiceAccountKey,
		"service-account-signing-key-file":   f.ServiceAccountKey,
		"service-cluster-ip-range":           strings.Join(cfg.ServiceCIDR, ","),
		"service-node-port-range":            cfg.ServiceNodePortRange,
		"tls-cert-file":                      f.Serving.Cert,
		"tls-private-key-file":               f.Serving.Key,
	}
	if ownAuthentication(cfg.KubeAPIServerArg) {
		args["anonymous-auth"] = "false"
	} else {
		args["authentication-config"] = f.AuthenticationConfig
	}
	return componentargs.Merge(args, cfg.KubeAPIServerArg), nil
}

// ownAuthentication tells whether the operator set up authentication with flags
// that upstream does not take together with a configuration file.
func ownAuthentication(extra []string) bool {
	for _, arg := range extra {
		key, _, _ := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		if key == "anonymous-auth" || key == "authentication-config" || strings.HasPrefix(key, "oidc-") {
			return true
		}
	}
	return false
}

// authenticationConfig lets anybody ask for health and nothing else.
const authenticationConfig = `apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
anonymous:
  enabled: true
  conditions:
  - path: /livez
  - path: /readyz
  - path: /healthz
`
