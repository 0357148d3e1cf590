package config

import (
	"slices"
	"strings"
)

// K3sFlags returns every flag of `k3s server` and `k3s agent` of k3s 1.34,
// hidden ones too, in the order of its help. Source: pkg/cli/cmds of k3s and
// its reference pages.
func K3sFlags() []K3sFlag {
	return slices.Concat(k3sGeneral(), k3sCluster(), k3sDatastore(), k3sComponents(), k3sAgent(), k3sExperimental())
}

const (
	noEtcd  = "there is no embedded etcd"
	ownEtcd = "use --datastore-endpoint with a PostgreSQL, MySQL, NATS or etcd of your own"
)

func k3sGeneral() []K3sFlag {
	const both = Server | Agent
	return []K3sFlag{
		{Name: "config", Aliases: []string{"c"}, Section: "Configuration", Env: "K3S_CONFIG_FILE", Commands: both, Standing: Differs,
			Why: "the default is /etc/cleat/config.yaml; a file, never a URL; the flag wins over the variable"},
		{Name: "debug", Section: "Configuration", Env: "K3S_DEBUG", Commands: both},
		{Name: "v", Section: "Configuration", Commands: both},
		{Name: "vmodule", Section: "Configuration", Commands: both, Standing: NotYet,
			Why: "the log is one for all parts and knows no source files", Instead: "use --v"},
		{Name: "log", Aliases: []string{"l"}, Section: "Configuration", Commands: both, Standing: Differs,
			Why: "the file is readable by root alone"},
		{Name: "alsologtostderr", Section: "Configuration", Commands: both, Standing: Differs, Why: "refused without --log"},
		{Name: "bind-address", Section: "Listener", Commands: both, Standing: Differs,
			Why: "of the server alone; the kubelet's is --kubelet-arg address=…"},
		{Name: "https-listen-port", Section: "Listener", Commands: Server},
		{Name: "supervisor-port", Section: "Listener", Commands: Server, Standing: Never,
			Why: "supervisor and API server share one port and one TLS listener", Instead: "use --https-listen-port"},
		{Name: "apiserver-port", Section: "Listener", Commands: Server, Standing: Never,
			Why: "supervisor and API server share one port and one TLS listener", Instead: "use --https-listen-port"},
		{Name: "apiserver-bind-address", Section: "Listener", Commands: Server, Standing: Never,
			Why: "supervisor and API server share one listener", Instead: "use --bind-address"},
		{Name: "advertise-address", Section: "Listener", Commands: Server, Standing: Differs,
			Why: "the default is --node-ip, never --node-external-ip"},
		{Name: "advertise-port", Section: "Listener", Commands: Server, Standing: NotYet,
			Why: "servers are reached at --https-listen-port"},
		{Name: "tls-san", Section: "Listener", Commands: Server},
		{Name: "tls-san-security", Section: "Listener", Commands: Server, Standing: Never,
			Why: "a name that a client asks for is never added to the certificate", Instead: "leave it out"},
		{Name: "data-dir", Aliases: []string{"d"}, Section: "Data", Env: "K3S_DATA_DIR", Commands: both, Standing: Differs,
			Why: "the default is /var/lib/cleat; the data of k3s is not read"},
		{Name: "cluster-cidr", Section: "Networking", Commands: Server},
		{Name: "service-cidr", Section: "Networking", Commands: Server},
		{Name: "service-node-port-range", Section: "Networking", Commands: Server},
		{Name: "cluster-dns", Section: "Networking", Commands: Server},
		{Name: "cluster-domain", Section: "Networking", Commands: Server},
		{Name: "flannel-backend", Section: "Networking", Commands: Server, Standing: Differs,
			Why: "vxlan and host-gw; none is written --cni cni-none, and wireguard-native is missing"},
		{Name: "flannel-ipv6-masq", Section: "Networking", Commands: Server, Standing: NotYet,
			Why: "IPv6 is masqueraded as IPv4 is; masquerade in the network plugin's configuration turns off both"},
		{Name: "flannel-external-ip", Section: "Networking", Commands: Server, Standing: NotYet, Why: "nodes reach each other at their --node-ip"},
		{Name: "egress-selector-mode", Section: "Networking", Commands: Server},
		{Name: "servicelb-namespace", Section: "Networking", Commands: Server, Standing: Never,
			Why: "the load balancer for services has no pods that could be in a namespace", Instead: "leave it out"},
	}
}

func k3sCluster() []K3sFlag {
	const both = Server | Agent
	return []K3sFlag{
		{Name: "write-kubeconfig", Aliases: []string{"o"}, Section: "Client", Env: "K3S_KUBECONFIG_OUTPUT", Commands: Server, Standing: Differs,
			Why: "the default is /etc/cleat/cleat.yaml"},
		{Name: "write-kubeconfig-mode", Section: "Client", Env: "K3S_KUBECONFIG_MODE", Commands: Server},
		{Name: "write-kubeconfig-group", Section: "Client", Env: "K3S_KUBECONFIG_GROUP", Commands: Server, Standing: Differs,
			Why: "refused with a mode that gives the group nothing"},
		{Name: "helm-job-image", Section: "Helm", Commands: Server, Standing: Never,
			Why: "charts are rendered in the server, by no job", Instead: "leave it out"},
		{Name: "token", Aliases: []string{"t", "cluster-secret"}, Section: "Cluster", Env: "K3S_TOKEN", Commands: both, Secret: true, Standing: Differs,
			Why: "a token that begins with K10 names the authority of one cluster, so one of k3s does not fit a cluster of cleat"},
		{Name: "token-file", Section: "Cluster", Env: "K3S_TOKEN_FILE", Commands: both},
		{Name: "agent-token", Section: "Cluster", Env: "K3S_AGENT_TOKEN", Commands: Server, Secret: true, Standing: Differs,
			Why: "the server's own token goes on joining nodes too"},
		{Name: "agent-token-file", Section: "Cluster", Env: "K3S_AGENT_TOKEN_FILE", Commands: Server, Standing: Differs,
			Why: "the server's own token goes on joining nodes too"},
		{Name: "server", Aliases: []string{"s"}, Section: "Cluster", Env: "K3S_URL", Commands: both, Standing: Differs,
			Why: "of an agent only, and with its port; servers with one --datastore-endpoint and one --token are one cluster"},
		{Name: "cluster-init", Section: "Cluster", Env: "K3S_CLUSTER_INIT", Commands: Server, Standing: NotYet, Why: noEtcd, Instead: ownEtcd},
		{Name: "cluster-reset", Section: "Cluster", Env: "K3S_CLUSTER_RESET", Commands: Server, Standing: NotYet, Why: noEtcd, Instead: ownEtcd},
		{Name: "cluster-reset-restore-path", Section: "Cluster", Commands: Server, Standing: NotYet, Why: noEtcd, Instead: ownEtcd},
		{Name: "kube-apiserver-arg", Section: "Component arguments", Commands: Server, Standing: Differs,
			Why: "always key=value; a flag whose meaning an option has is refused with the option's name"},
		{Name: "etcd-arg", Section: "Component arguments", Commands: Server, Standing: NotYet, Why: noEtcd, Instead: ownEtcd},
		{Name: "kube-controller-manager-arg", Aliases: []string{"kube-controller-arg"}, Section: "Component arguments", Commands: Server, Standing: Differs,
			Why: "always key=value"},
		{Name: "kube-scheduler-arg", Section: "Component arguments", Commands: Server, Standing: Differs, Why: "always key=value"},
		{Name: "kube-cloud-controller-manager-arg", Aliases: []string{"kube-cloud-controller-arg"}, Section: "Component arguments", Commands: Server,
			Standing: Never, Why: "the built-in cloud controller has no flags", Instead: "run one of your own with --disable-cloud-controller"},
		{Name: "helm-controller-arg", Section: "Component arguments", Commands: Server, Standing: Never,
			Why: "there is no helm controller; deployer-helm is a plugin", Instead: "configure the plugin in plugins.lock"},
		{Name: "kubelet-arg", Section: "Component arguments", Commands: both, Standing: Differs, Why: "always key=value"},
		{Name: "kube-proxy-arg", Section: "Component arguments", Commands: both, Standing: Differs, Why: "always key=value; proxy-mode is nftables unless given"},
	}
}

func k3sDatastore() []K3sFlag {
	rows := []K3sFlag{
		{Name: "datastore-endpoint", Env: "K3S_DATASTORE_ENDPOINT", Secret: true, Standing: Differs,
			Why: "datastore plugins read it; without it the store is SQLite, never an embedded etcd"},
		{Name: "kine-tls", Standing: Never, Why: "kine listens on a socket that root alone can open", Instead: "leave it out"},
	}
	for _, name := range []string{"cafile", "certfile", "keyfile"} {
		rows = append(rows, K3sFlag{Name: "datastore-" + name, Env: "K3S_DATASTORE_" + strings.ToUpper(name), Standing: NotYet,
			Why:     "TLS files are the datastore plugin's business",
			Instead: "set them in the plugin's config in plugins.lock, or in the parameters of --datastore-endpoint"})
	}
	for _, name := range []string{
		"etcd-expose-metrics", "etcd-disable-snapshots", "etcd-snapshot-name", "etcd-snapshot-schedule-cron",
		"etcd-snapshot-reconcile-interval", "etcd-snapshot-retention", "etcd-snapshot-dir", "etcd-snapshot-compress",
	} {
		rows = append(rows, K3sFlag{Name: name, Standing: NotYet, Why: noEtcd, Instead: "back up the database that --datastore-endpoint names"})
	}
	for _, name := range []string{
		"etcd-s3", "etcd-s3-endpoint", "etcd-s3-endpoint-ca", "etcd-s3-skip-ssl-verify", "etcd-s3-access-key", "etcd-s3-secret-key",
		"etcd-s3-session-token", "etcd-s3-bucket", "etcd-s3-bucket-lookup-type", "etcd-s3-region", "etcd-s3-folder",
		"etcd-s3-retention", "etcd-s3-proxy", "etcd-s3-config-secret", "etcd-s3-insecure", "etcd-s3-timeout",
	} {
		secret := slices.Contains([]string{"etcd-s3-access-key", "etcd-s3-secret-key", "etcd-s3-session-token", "etcd-s3-proxy"}, name)
		rows = append(rows, K3sFlag{Name: name, Secret: secret, Standing: NotYet, Why: noEtcd, Instead: "back up the database that --datastore-endpoint names"})
	}
	for i := range rows {
		rows[i].Section, rows[i].Commands = "Datastore", Server
	}
	return rows
}

func k3sComponents() []K3sFlag {
	rows := []K3sFlag{
		{Name: "default-local-storage-path", Standing: NotYet, Why: "no storage provisioner is packaged", Instead: "deploy one of your own"},
		{Name: "disable", Standing: Differs, Why: "coredns is what is packaged, and servicelb the load balancer for services; other names are taken and have nothing to remove"},
		{Name: "disable-scheduler"},
		{Name: "disable-cloud-controller"},
		{Name: "disable-kube-proxy"},
		{Name: "disable-network-policy", Standing: Differs, Why: "the rules go too, without `cleat killall`"},
		{Name: "disable-helm-controller", Standing: Never, Why: "charts are the work of the plugin deployer-helm",
			Instead: "use `cleat plugin disable deployer-helm`"},
		{Name: "disable-apiserver", Standing: NotYet, Why: noEtcd + " to run alone"},
		{Name: "disable-controller-manager", Standing: NotYet, Why: noEtcd + " to run alone"},
		{Name: "disable-etcd", Standing: NotYet, Why: noEtcd, Instead: "leave it out"},
		{Name: "disable-agent"},
		{Name: "embedded-registry", Standing: NotYet, Why: "nodes share no images", Instead: "put archives into agent/images, or use mirrors in registries.yaml"},
		{Name: "supervisor-metrics", Standing: NotYet, Why: "the supervisor has no metrics of its own"},
	}
	for i := range rows {
		rows[i].Section, rows[i].Commands = "Components", Server
	}
	return rows
}

func k3sAgent() []K3sFlag {
	rows := []K3sFlag{
		{Name: "node-name", Env: "K3S_NODE_NAME"},
		{Name: "with-node-id", Standing: Differs, Why: "the ID is kept in /etc/cleat/node/id"},
		{Name: "node-label", Standing: Differs, Why: "a label that the kubelet may not set on itself is refused at once"},
		{Name: "node-taint"},
		{Name: "image-credential-provider-bin-dir", Standing: Differs, Why: "no default; given with --image-credential-provider-config or not at all"},
		{Name: "image-credential-provider-config", Standing: Differs, Why: "no default; given with --image-credential-provider-bin-dir or not at all"},
		{Name: "protect-kernel-defaults"},
		{Name: "lb-server-port", Env: "K3S_LB_SERVER_PORT", Standing: Differs,
			Why: "of agents alone; the node of a server talks to its own port, and nothing takes the port below"},
		{Name: "docker", Standing: Never, Why: "Docker is not a CRI runtime", Instead: "use the built-in containerd, or cri-dockerd of your own with --container-runtime-endpoint"},
		{Name: "container-runtime-endpoint", Standing: Differs, Why: "never the socket of Docker"},
		{Name: "default-runtime", Standing: Differs, Why: "runtimes beside runc are not detected; a template of containerd's configuration adds them"},
		{Name: "image-service-endpoint"},
		{Name: "disable-default-registry-endpoint"},
		{Name: "nonroot-devices"},
		{Name: "pause-image", Standing: Differs, Why: "the default is in the binary and needs no registry"},
		{Name: "snapshotter", Standing: Differs, Why: "overlayfs and native; fuse-overlayfs, stargz and nix are missing"},
		{Name: "private-registry", Standing: Differs, Why: "the default is /etc/cleat/registries.yaml; the format is the same"},
		{Name: "system-default-registry", Env: "K3S_SYSTEM_DEFAULT_REGISTRY", Standing: Never, Why: "packaged images are in the binary", Instead: "leave it out"},
		{Name: "airgap-extra-registry", Standing: Never, Why: "packaged images are in the binary, and archives keep the names they have", Instead: "name images in archives as pods do"},
		{Name: "node-ip", Aliases: []string{"i"}},
		{Name: "node-external-ip", Standing: Differs, Why: "one of each family; --advertise-address stays --node-ip's"},
		{Name: "node-internal-dns"},
		{Name: "node-external-dns"},
		{Name: "resolv-conf", Env: "K3S_RESOLV_CONF"},
		{Name: "flannel-iface", Standing: Differs, Why: "the network plugin is told of it; the address of the node stays --node-ip's"},
		{Name: "flannel-conf", Standing: Never, Why: "a plugin plans the network", Instead: "configure cni-flannel in plugins.lock, or use --cni"},
		{Name: "flannel-cni-conf", Standing: Never, Why: "a plugin plans the network", Instead: "configure cni-flannel in plugins.lock, or use --cni"},
		{Name: "vpn-auth", Env: "K3S_VPN_AUTH", Secret: true, Standing: Never, Why: "cleat configures no VPN", Instead: "set it up before cleat starts and name its link with --flannel-iface"},
		{Name: "vpn-auth-file", Env: "K3S_VPN_AUTH_FILE", Standing: Never, Why: "cleat configures no VPN", Instead: "set it up before cleat starts and name its link with --flannel-iface"},
		{Name: "disable-apiserver-lb", Standing: Never, Why: "without the load balancer a node has one server; a load balancer of yours may be its --server", Instead: "leave it out"},
	}
	for i := range rows {
		rows[i].Section, rows[i].Commands = "Agent", Server|Agent
	}
	rows[len(rows)-1].Commands = Agent
	return rows
}

func k3sExperimental() []K3sFlag {
	const encryption = "give the API server a configuration of yours: --kube-apiserver-arg encryption-provider-config=FILE"
	rows := []K3sFlag{
		{Name: "secrets-encryption", Commands: Server, Standing: NotYet, Why: "keys are not made and rotated", Instead: encryption},
		{Name: "secrets-encryption-provider", Commands: Server, Standing: NotYet, Why: "keys are not made and rotated", Instead: encryption},
		{Name: "enable-pprof", Commands: Server | Agent, Standing: NotYet, Why: "profiles are not served"},
		{Name: "rootless", Commands: Server | Agent, Standing: NotYet, Why: "a server runs as root"},
		{Name: "prefer-bundled-bin", Commands: Server | Agent, Standing: Never, Why: "runc, the shim and the CNI plugins are always the bundled ones, and no other programs are bundled", Instead: "leave it out"},
		{Name: "selinux", Aliases: []string{"disable-selinux"}, Commands: Server | Agent, Env: "K3S_SELINUX", Standing: NotYet, Why: "there is no policy for cleat"},
		{Name: "no-flannel", Commands: Agent, Standing: Never, Why: "k3s itself has replaced it", Instead: "use --cni cni-none"},
	}
	for i := range rows {
		rows[i].Section = "Experimental and old"
	}
	return rows
}
