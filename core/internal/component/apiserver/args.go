package apiserver

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"

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
	"etcd-cafile":              "--datastore-endpoint",
	"etcd-certfile":            "--datastore-endpoint",
	"etcd-keyfile":             "--datastore-endpoint",
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
		key, _ := split(arg)
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
	if mode := cfg.EgressSelectorMode; mode == config.EgressPod || mode == config.EgressCluster {
		// A tunnel leads to a pod; only kube-proxy knows a service's address.
		args["enable-aggregator-routing"] = "true"
	}
	maps.Copy(args, authentication(cfg.KubeAPIServerArg, f.AuthenticationConfig))
	ours := append(admission(cfg.KubeAPIServerArg), "--feature-gates="+withoutProgress)
	return append(ours, componentargs.Merge(args, cfg.KubeAPIServerArg)...), nil
}

// withoutProgress is for a datastore that is not asked how far its watches are; see
// RATIONALE.md, "kine is not asked how far its watches are". The flag adds up when
// it is repeated, and the operator's comes last.
const withoutProgress = "WatchList=false"

// authentication are the arguments about anonymous requests: only health may
// be asked for by anybody. Upstream takes neither --anonymous-auth nor --oidc-…
// together with a configuration file about the same, so where an operator uses
// one of them ours gives way, and no anonymous request is left.
func authentication(extra []string, config string) map[string]string {
	var flags bool
	for _, arg := range extra {
		switch key, value := split(arg); {
		case key == "authentication-config" && decidesAnonymous(value):
			return nil
		case key == "authentication-config", key == "anonymous-auth", strings.HasPrefix(key, "oidc-"):
			flags = true
		}
	}
	if flags {
		return map[string]string{"anonymous-auth": "false"}
	}
	return map[string]string{"authentication-config": config}
}

// decidesAnonymous tells whether an operator's authentication configuration
// says which anonymous requests it wants. Of a file that cannot be read the API
// server says why.
func decidesAnonymous(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	var config struct {
		Anonymous *struct{} `json:"anonymous"`
	}
	return yaml.Unmarshal(text, &config) == nil && config.Anonymous != nil
}

// admission enables NodeRestriction beside what an operator enables, unless
// it is named among those to disable. The flag adds up when it is repeated.
func admission(extra []string) []string {
	const restriction = "NodeRestriction"
	for _, arg := range extra {
		if key, value := split(arg); key == "disable-admission-plugins" && slices.Contains(strings.Split(value, ","), restriction) {
			return nil
		}
	}
	return []string{"--enable-admission-plugins=" + restriction}
}

// split gives the key and the value of an operator's argument.
func split(arg string) (key, value string) {
	key, value, _ = strings.Cut(strings.TrimLeft(arg, "-"), "=")
	return key, value
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
