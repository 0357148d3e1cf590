// Package config holds the one configuration of a cleat node: what an operator
// may choose (Options, filled from the option table) and what the machine is
// (Host, filled by Detect). Load, Detect and Validate run in that order; after
// them a Config is never written again.
package config

import (
	"net/netip"
	"time"
)

// Config is everything a node was told and everything it found out. Printed,
// logged or encoded as JSON it shows Options, without secrets.
type Config struct {
	Options
	Host Host

	command Command           // whose options were loaded
	origins map[string]string // option name -> where its value came from
	foreign []string          // the other command's keys in the config files, with where each stands
}

// IsAgent reports whether this is the configuration of a node without a server.
// What the cluster decides is empty in it, until InCluster.
func (c *Config) IsAgent() bool { return c.command == Agent }

// Foreign lists the keys of the config files that are options of a server only
// and were left alone for an agent, each with where it stands.
func (c *Config) Foreign() []string { return c.foreign }

// Options is what an operator chooses, one field for each row of the option
// table; flags, CLEAT_… variables and config file keys all write here.
type Options struct {
	ConfigFile string // --config
	Debug      bool   // --debug
	LogFormat  string // --log-format: auto, text or json
	Verbosity  int    // --v: of Kubernetes' own log lines
	LogFile    string // --log: a file to log to instead of standard error

	AlsoLogToStderr bool // --alsologtostderr: beside LogFile

	DataDir             string   // --data-dir
	BindAddress         string   // --bind-address
	HTTPSListenPort     int      // --https-listen-port
	AdvertiseAddress    string   // --advertise-address; Detect fills it from NodeIP
	TLSSAN              []string // --tls-san
	Server              string   // --server: https://host:port of the server that an agent joins
	Token               string   // --token; secret
	TokenFile           string   // --token-file; Detect reads it into Token
	AgentToken          string   // --agent-token; secret
	AgentTokenFile      string   // --agent-token-file; Detect reads it into AgentToken
	WriteKubeconfig     string   // --write-kubeconfig
	WriteKubeconfigMode string   // --write-kubeconfig-mode, octal digits

	CertificateLifetime time.Duration // --certificate-lifetime: of leaves, not of authorities

	WriteKubeconfigGroup string // --write-kubeconfig-group: a name or number, "" = as it comes

	ClusterCIDR          []string // --cluster-cidr
	ServiceCIDR          []string // --service-cidr
	ServiceNodePortRange string   // --service-node-port-range
	ClusterDNS           []string // --cluster-dns; Detect fills it: tenth address of each service CIDR
	ClusterDomain        string   // --cluster-domain
	FlannelBackend       string   // --flannel-backend
	FlannelIface         string   // --flannel-iface; empty = the link of the node's address
	EgressSelectorMode   string   // --egress-selector-mode: one of the Egress constants

	DatastoreEndpoint string // --datastore-endpoint; may hold a password

	Disable                []string // --disable
	DisableScheduler       bool     // --disable-scheduler
	DisableCloudController bool     // --disable-cloud-controller
	DisableKubeProxy       bool     // --disable-kube-proxy
	DisableNetworkPolicy   bool     // --disable-network-policy
	DisableAgent           bool     // --disable-agent

	KubeAPIServerArg         []string // --kube-apiserver-arg, each key=value
	KubeControllerManagerArg []string // --kube-controller-manager-arg
	KubeSchedulerArg         []string // --kube-scheduler-arg
	KubeletArg               []string // --kubelet-arg
	KubeProxyArg             []string // --kube-proxy-arg

	NodeName                 string   // --node-name; Detect fills it from the host name
	NodeIP                   []string // --node-ip; Detect fills it from the default route's interface
	NodeExternalIP           []string // --node-external-ip
	NodeInternalDNS          []string // --node-internal-dns
	NodeExternalDNS          []string // --node-external-dns
	WithNodeID               bool     // --with-node-id; Detect appends it to NodeName, see Host.NodeID
	NodeLabel                []string // --node-label, each key=value
	NodeTaint                []string // --node-taint, each key=value:effect
	ProtectKernelDefaults    bool     // --protect-kernel-defaults
	ResolvConf               string   // --resolv-conf; Detect picks a file, see Host.ResolvConfUnusable
	Snapshotter              string   // --snapshotter
	PauseImage               string   // --pause-image
	PrivateRegistry          string   // --private-registry: the path of registries.yaml
	ContainerRuntimeEndpoint string   // --container-runtime-endpoint; empty = the embedded containerd
	ImageServiceEndpoint     string   // --image-service-endpoint; empty = the runtime's
	DefaultRuntime           string   // --default-runtime: a runtime of containerd's configuration
	NonrootDevices           bool     // --nonroot-devices

	DisableDefaultRegistryEndpoint bool // --disable-default-registry-endpoint

	ImageCredentialProviderBinDir string // --image-credential-provider-bin-dir
	ImageCredentialProviderConfig string // --image-credential-provider-config

	PluginsLock string // --plugins-lock; empty = the lock of the embedded bundle
	PluginsDir  string // --plugins-dir: where a lock's file sources are looked up; Detect fills it
	CNI         string // --cni: the name of the plugin that decides the network

	LBServerPort int // --lb-server-port: where an agent's programs find the servers

	PluginsCapture string // --plugins-capture: off, faults or decisions
}

// Host is what Detect found out about the machine. Nothing in it is a choice.
type Host struct {
	Hostname string
	// NodeID is what --with-node-id appends to the node's name; "" without it. It is
	// that of paths.NodeID, or a new one, which the kubelet unit has to write there.
	NodeID           string
	DefaultInterface string       // the link of the default route, "" if there is none
	Addresses        []netip.Addr // global unicast addresses, the default interface's first
	CgroupVersion    int          // 1 or 2
	CgroupRoot       string       // the cgroup this process may put pods under, "/" unless confined
	AppArmor         bool         // the kernel enforces AppArmor and apparmor_parser is installed
	CanRaiseOOMScore bool         // CAP_SYS_RESOURCE: runc may lower oom_score_adj
	UserNamespace    bool         // running inside a user namespace
	// ResolvConfUnusable: no resolv.conf of the machine names a server that a
	// pod can reach, so Options.ResolvConf is a file that the kubelet unit has
	// to write before the kubelet starts.
	ResolvConfUnusable bool
}
