package config

import (
	"slices"
	"time"

	"github.com/cleat-dev/cleat/core/internal/version"
)

// Defaults that other packages need to name.
const (
	DefaultConfigFile      = "/etc/cleat/config.yaml"
	DefaultDataDir         = "/var/lib/cleat"
	DefaultWriteKubeconfig = "/etc/cleat/cleat.yaml"
)

// Values of --egress-selector-mode.
const (
	EgressAgent    = "agent"
	EgressPod      = "pod"
	EgressCluster  = "cluster"
	EgressDisabled = "disabled"
)

// Headings of help and documentation, in the order they are shown in.
const (
	groupConfig     = "Configuration"
	groupListener   = "Listener"
	groupCluster    = "Cluster"
	groupClient     = "Client"
	groupNetwork    = "Networking"
	groupDatastore  = "Datastore"
	groupPlugins    = "Plugins"
	groupComponents = "Components"
	groupArguments  = "Component arguments"
	groupNode       = "Node"
	groupRuntime    = "Container runtime"
)

// Table returns the option table: one row for each field of Options, in the
// order of help and documentation.
func Table() []Option {
	return slices.Concat(generalOptions(), networkOptions(), componentOptions(), nodeOptions())
}

func generalOptions() []Option {
	const both = Server | Agent
	return []Option{
		{Name: "config", Short: "c", Group: groupConfig, Value: "PATH", Default: DefaultConfigFile, Commands: both,
			Help:  "Config file. The files of the directory PATH.d are read after it, in alphabetical order.",
			field: pathname(func(o *Options) *string { return &o.ConfigFile })},
		{Name: "debug", Group: groupConfig, Default: "false", Commands: both,
			Help:  "Log what is of use only when looking for a fault.",
			field: toggle(func(o *Options) *bool { return &o.Debug })},
		{Name: "log-format", Group: groupConfig, Value: "FORMAT", Default: "auto", Commands: both,
			Help:  "auto, text or json. auto is text on a terminal and json elsewhere.",
			field: text(func(o *Options) *string { return &o.LogFormat })},
		{Name: "v", Short: "v", Group: groupConfig, Value: "N", Default: "0", Commands: both,
			Help:  "Verbosity of Kubernetes' own log lines. Above 0 they are shown as they are; else only with --debug.",
			field: number(func(o *Options) *int { return &o.Verbosity })},
		{Name: "log", Short: "l", Group: groupConfig, Value: "PATH", Found: "standard error", Commands: both,
			Help:  "File to append the log to. It is readable by root alone and not rotated.",
			field: pathname(func(o *Options) *string { return &o.LogFile })},
		{Name: "alsologtostderr", Group: groupConfig, Default: "false", Commands: both,
			Help:  "Log to standard error as well as to the file that --log names.",
			field: toggle(func(o *Options) *bool { return &o.AlsoLogToStderr })},
		{Name: "data-dir", Short: "d", Group: groupConfig, Value: "PATH", Default: DefaultDataDir, Commands: both,
			Help:  "Directory that holds all state of this node.",
			field: pathname(func(o *Options) *string { return &o.DataDir })},

		{Name: "bind-address", Group: groupListener, Value: "IP", Default: "0.0.0.0", Commands: Server,
			Help:  "Address the supervisor and the API server listen on.",
			field: text(func(o *Options) *string { return &o.BindAddress })},
		{Name: "https-listen-port", Group: groupListener, Value: "PORT", Default: "6443", Commands: Server,
			Help:  "Port the supervisor and the API server listen on.",
			field: number(func(o *Options) *int { return &o.HTTPSListenPort })},
		{Name: "advertise-address", Group: groupListener, Value: "IP", Found: "the first --node-ip", Commands: Server,
			Help:  "Address at which the members of the cluster reach this API server.",
			field: text(func(o *Options) *string { return &o.AdvertiseAddress })},
		{Name: "tls-san", Group: groupListener, Value: "NAME", Commands: Server,
			Help:  "Further host name or address for the server's certificate.",
			field: commas(func(o *Options) *[]string { return &o.TLSSAN })},

		{Name: "server", Short: "s", Group: groupCluster, Value: "URL", Commands: Agent,
			Help:  "Server to join, https://HOST:6443.",
			field: text(func(o *Options) *string { return &o.Server })},
		{Name: "token", Short: "t", Group: groupCluster, Value: "TOKEN", Found: "a server makes one at its first start", Secret: true, Commands: both,
			Help:  "Shared secret with which nodes join and which encrypts the bootstrap data. Prefer --token-file or CLEAT_TOKEN: until the server has blanked it, a flag shows in the process list.",
			field: text(func(o *Options) *string { return &o.Token })},
		{Name: "token-file", Group: groupCluster, Value: "PATH", Commands: both,
			Help:  "File that holds the token.",
			field: pathname(func(o *Options) *string { return &o.TokenFile })},
		{Name: "certificate-lifetime", Group: groupCluster, Value: "TIME", Default: "8760h", Commands: Server,
			Help:  "How long the certificates are valid that this server issues from now on. Each is renewed, without a restart, when a third of its time is left.",
			field: period(func(o *Options) *time.Duration { return &o.CertificateLifetime })},
		{Name: "agent-token", Group: groupCluster, Value: "TOKEN", Found: "the token", Secret: true, Commands: Server, Agree: Common,
			Help:  "Second secret, with which nodes join but which neither makes a server nor rotates the token. Prefer --agent-token-file or CLEAT_AGENT_TOKEN.",
			field: text(func(o *Options) *string { return &o.AgentToken })},
		{Name: "agent-token-file", Group: groupCluster, Value: "PATH", Commands: Server,
			Help:  "File that holds the agents' token.",
			field: pathname(func(o *Options) *string { return &o.AgentTokenFile })},

		{Name: "write-kubeconfig", Short: "o", Group: groupClient, Value: "PATH", Default: DefaultWriteKubeconfig, Commands: Server,
			Help:  "Where to write the administrator's kubeconfig.",
			field: pathname(func(o *Options) *string { return &o.WriteKubeconfig })},
		{Name: "write-kubeconfig-mode", Group: groupClient, Value: "MODE", Default: "0600", Commands: Server,
			Help:  "Mode of that file, in octal. Whoever can read it is the cluster's administrator.",
			field: text(func(o *Options) *string { return &o.WriteKubeconfigMode })},
		{Name: "write-kubeconfig-group", Group: groupClient, Value: "GROUP", Commands: Server,
			Help:  "Group that owns that file, by name or number. It can read the file if --write-kubeconfig-mode is 0640.",
			field: text(func(o *Options) *string { return &o.WriteKubeconfigGroup })},
	}
}

func networkOptions() []Option {
	return []Option{
		{Name: "cluster-cidr", Group: groupNetwork, Value: "CIDR", Default: "10.42.0.0/16", Commands: Server, Agree: Fixed,
			Help:  "Addresses of pods. Two, of different families, make a dual-stack cluster.",
			field: commas(func(o *Options) *[]string { return &o.ClusterCIDR })},
		{Name: "service-cidr", Group: groupNetwork, Value: "CIDR", Default: "10.43.0.0/16", Commands: Server, Agree: Fixed,
			Help:  "Addresses of services, of the same families as --cluster-cidr.",
			field: commas(func(o *Options) *[]string { return &o.ServiceCIDR })},
		{Name: "service-node-port-range", Group: groupNetwork, Value: "LOW-HIGH", Default: "30000-32767", Commands: Server, Agree: Common,
			Help:  "Ports that NodePort services may take.",
			field: text(func(o *Options) *string { return &o.ServiceNodePortRange })},
		{Name: "cluster-dns", Group: groupNetwork, Value: "IP", Found: "the tenth address of each --service-cidr", Commands: Server, Agree: Common,
			Help:  "Address of the cluster's DNS service.",
			field: commas(func(o *Options) *[]string { return &o.ClusterDNS })},
		{Name: "cluster-domain", Group: groupNetwork, Value: "DOMAIN", Default: "cluster.local", Commands: Server, Agree: Common,
			Help:  "DNS domain of the cluster.",
			field: text(func(o *Options) *string { return &o.ClusterDomain })},
		{Name: "flannel-backend", Group: groupNetwork, Value: "NAME", Default: "vxlan", Commands: Server, Agree: Common,
			Help:  "How packets travel between nodes. It is handed to the network plugin, which says which names it knows; cni-flannel knows vxlan and host-gw.",
			field: text(func(o *Options) *string { return &o.FlannelBackend })},
		{Name: "flannel-iface", Group: groupNetwork, Value: "LINK", Found: "the link of the node's address", Commands: Server | Agent,
			Help:  "Link that carries the traffic between nodes. The network plugin is told of it.",
			field: text(func(o *Options) *string { return &o.FlannelIface })},

		{Name: "egress-selector-mode", Group: groupNetwork, Value: "MODE", Default: EgressAgent, Commands: Server, Agree: Common,
			Help:  "What the API server reaches through the tunnels that agents, and other servers' nodes, open to it: agent (kubelets), pod or cluster (pods too), or disabled. With pod a node lets it reach only pods of its own; with cluster any port of the node, and all of --cluster-cidr.",
			field: text(func(o *Options) *string { return &o.EgressSelectorMode })},

		{Name: "datastore-endpoint", Group: groupDatastore, Value: "URL", Found: "SQLite in the data directory", Secret: true, Commands: Server,
			Help:  "Where cluster state lives. It is handed to the datastore plugins; the first that claims it decides. Prefer CLEAT_DATASTORE_ENDPOINT or the config file if it holds a password.",
			field: text(func(o *Options) *string { return &o.DatastoreEndpoint })},

		{Name: "plugins-lock", Group: groupPlugins, Value: "PATH", Found: "the lock of the embedded bundle", Commands: Server,
			Help:  "plugins.lock to hold the plugins to. The server does not start if one of them differs from it.",
			field: pathname(func(o *Options) *string { return &o.PluginsLock })},
		{Name: "plugins-dir", Group: groupPlugins, Value: "PATH", Found: "plugins in the data directory", Commands: Server,
			Help:  "Directory in which the lock's file sources are looked up.",
			field: pathname(func(o *Options) *string { return &o.PluginsDir })},
		{Name: "plugins-capture", Group: groupPlugins, Value: "WHAT", Default: "off", Commands: Server,
			Help:  "Calls of plugins to keep for `cleat plugin replay`: off, faults, or decisions (denials, mutations and faults). At most 256 are kept, for root alone and without secrets.",
			field: text(func(o *Options) *string { return &o.PluginsCapture })},
		{Name: "cni", Group: groupPlugins, Value: "PLUGIN", Default: "cni-flannel", Commands: Server, Agree: Common,
			Help:  "Name of the plugin that decides the network, such as cni-flannel, cni-bridge or cni-none.",
			field: text(func(o *Options) *string { return &o.CNI })},
	}
}

func componentOptions() []Option {
	return []Option{
		{Name: "disable", Group: groupComponents, Value: "NAME", Commands: Server, Agree: Common,
			Help:  "Packaged component not to deploy, or to remove: the base name of its manifest, such as coredns. servicelb is the load balancer for Services; the addresses it gave are taken back.",
			field: commas(func(o *Options) *[]string { return &o.Disable })},
		{Name: "disable-scheduler", Group: groupComponents, Default: "false", Commands: Server,
			Help:  "Do not run the scheduler.",
			field: toggle(func(o *Options) *bool { return &o.DisableScheduler })},
		{Name: "disable-cloud-controller", Group: groupComponents, Default: "false", Commands: Server, Agree: Common,
			Help:  "Do not run the built-in cloud controller.",
			field: toggle(func(o *Options) *bool { return &o.DisableCloudController })},
		{Name: "disable-kube-proxy", Group: groupComponents, Default: "false", Commands: Server, Agree: Common,
			Help:  "Do not run kube-proxy.",
			field: toggle(func(o *Options) *bool { return &o.DisableKubeProxy })},
		{Name: "disable-network-policy", Group: groupComponents, Default: "false", Commands: Server, Agree: Common,
			Help:  "Do not enforce NetworkPolicies. The network plugin is told of it; rules of an earlier start are removed.",
			field: toggle(func(o *Options) *bool { return &o.DisableNetworkPolicy })},
		{Name: "disable-agent", Group: groupComponents, Default: "false", Commands: Server,
			Help:  "Run the control plane only, without a node on this machine.",
			field: toggle(func(o *Options) *bool { return &o.DisableAgent })},

		{Name: "kube-apiserver-arg", Group: groupArguments, Value: "KEY=VALUE", Commands: Server,
			Help:  "Flag for kube-apiserver, without its dashes.",
			field: lines(func(o *Options) *[]string { return &o.KubeAPIServerArg })},
		{Name: "kube-controller-manager-arg", Group: groupArguments, Value: "KEY=VALUE", Commands: Server,
			Help:  "Flag for kube-controller-manager, without its dashes.",
			field: lines(func(o *Options) *[]string { return &o.KubeControllerManagerArg })},
		{Name: "kube-scheduler-arg", Group: groupArguments, Value: "KEY=VALUE", Commands: Server,
			Help:  "Flag for kube-scheduler, without its dashes.",
			field: lines(func(o *Options) *[]string { return &o.KubeSchedulerArg })},
		{Name: "kubelet-arg", Group: groupArguments, Value: "KEY=VALUE", Commands: Server | Agent,
			Help:  "Flag for the kubelet, without its dashes.",
			field: lines(func(o *Options) *[]string { return &o.KubeletArg })},
		{Name: "kube-proxy-arg", Group: groupArguments, Value: "KEY=VALUE", Commands: Server | Agent,
			Help:  "Flag for kube-proxy, without its dashes.",
			field: lines(func(o *Options) *[]string { return &o.KubeProxyArg })},
	}
}

func nodeOptions() []Option {
	const both = Server | Agent
	return []Option{
		{Name: "lb-server-port", Group: groupNode, Value: "PORT", Default: "6444", Commands: Agent,
			Help:  "Port of this machine at which the node's programs reach the servers. It is the built-in load balancer's.",
			field: number(func(o *Options) *int { return &o.LBServerPort })},
		{Name: "node-name", Group: groupNode, Value: "NAME", Found: "the host name", Commands: both,
			Help:  "Name of this node in the cluster.",
			field: text(func(o *Options) *string { return &o.NodeName })},
		{Name: "node-ip", Short: "i", Group: groupNode, Value: "IP", Found: "the interface of the default route", Commands: both,
			Help:  "Address of this node, one for each family of --cluster-cidr.",
			field: commas(func(o *Options) *[]string { return &o.NodeIP })},
		{Name: "node-external-ip", Group: groupNode, Value: "IP", Commands: both,
			Help:  "Address at which this node is reached from outside, one for each family. Services of type LoadBalancer get it instead of --node-ip.",
			field: commas(func(o *Options) *[]string { return &o.NodeExternalIP })},
		{Name: "node-internal-dns", Group: groupNode, Value: "NAME", Commands: both,
			Help:  "DNS name of this node inside its network, for its list of addresses.",
			field: commas(func(o *Options) *[]string { return &o.NodeInternalDNS })},
		{Name: "node-external-dns", Group: groupNode, Value: "NAME", Commands: both,
			Help:  "DNS name at which this node is reached from outside, for its list of addresses.",
			field: commas(func(o *Options) *[]string { return &o.NodeExternalDNS })},
		{Name: "with-node-id", Group: groupNode, Default: "false", Commands: both,
			Help:  "Append an ID to the node's name that is made at the first start and kept in /etc/cleat/node/id, for machines that have one host name.",
			field: toggle(func(o *Options) *bool { return &o.WithNodeID })},
		{Name: "node-label", Group: groupNode, Value: "KEY=VALUE", Commands: both,
			Help:  "Label the node registers with.",
			field: commas(func(o *Options) *[]string { return &o.NodeLabel })},
		{Name: "node-taint", Group: groupNode, Value: "KEY=VALUE:EFFECT", Commands: both,
			Help:  "Taint the node registers with.",
			field: commas(func(o *Options) *[]string { return &o.NodeTaint })},
		{Name: "protect-kernel-defaults", Group: groupNode, Default: "false", Commands: both,
			Help:  "Fail if a kernel setting is not what the kubelet wants, instead of changing it.",
			field: toggle(func(o *Options) *bool { return &o.ProtectKernelDefaults })},
		{Name: "image-credential-provider-bin-dir", Group: groupNode, Value: "PATH", Commands: both,
			Help:  "Directory of the programs that give the kubelet credentials for registries.",
			field: pathname(func(o *Options) *string { return &o.ImageCredentialProviderBinDir })},
		{Name: "image-credential-provider-config", Group: groupNode, Value: "PATH", Commands: both,
			Help:  "File that says which of these programs is asked for which images.",
			field: pathname(func(o *Options) *string { return &o.ImageCredentialProviderConfig })},
		{Name: "resolv-conf", Group: groupNode, Value: "PATH", Found: "the first of the machine's files that a pod can use", Commands: both,
			Help:  "resolv.conf for pods that use the node's DNS.",
			field: pathname(func(o *Options) *string { return &o.ResolvConf })},

		{Name: "container-runtime-endpoint", Group: groupRuntime, Value: "SOCKET", Found: "the built-in containerd", Commands: both,
			Help:  "Socket of a container runtime to use instead of the built-in containerd.",
			field: text(func(o *Options) *string { return &o.ContainerRuntimeEndpoint })},
		{Name: "image-service-endpoint", Group: groupRuntime, Value: "SOCKET", Found: "the container runtime's", Commands: both,
			Help:  "Socket of the service from which the kubelet gets images.",
			field: text(func(o *Options) *string { return &o.ImageServiceEndpoint })},
		{Name: "default-runtime", Group: groupRuntime, Value: "NAME", Default: "runc", Commands: both,
			Help:  "Runtime of pods without a runtime class: a runtime of the built-in containerd's configuration, to which a template adds others.",
			field: text(func(o *Options) *string { return &o.DefaultRuntime })},
		{Name: "nonroot-devices", Group: groupRuntime, Default: "false", Commands: both,
			Help:  "Devices given to a container belong to its user instead of root.",
			field: toggle(func(o *Options) *bool { return &o.NonrootDevices })},
		{Name: "snapshotter", Group: groupRuntime, Value: "NAME", Default: "overlayfs", Commands: both,
			Help:  "containerd snapshotter.",
			field: text(func(o *Options) *string { return &o.Snapshotter })},
		{Name: "pause-image", Group: groupRuntime, Value: "IMAGE", Default: version.PauseImage, Commands: both,
			Help:  "Image of the container that holds a pod's namespaces. The default needs no registry.",
			field: text(func(o *Options) *string { return &o.PauseImage })},
		{Name: "private-registry", Group: groupRuntime, Value: "PATH", Default: "/etc/cleat/registries.yaml", Commands: both,
			Help:  "File with registry mirrors, credentials and certificates.",
			field: pathname(func(o *Options) *string { return &o.PrivateRegistry })},
		{Name: "disable-default-registry-endpoint", Group: groupRuntime, Default: "false", Commands: both,
			Help:  "Never ask a registry itself that has mirrors in that file.",
			field: toggle(func(o *Options) *bool { return &o.DisableDefaultRegistryEndpoint })},
	}
}
