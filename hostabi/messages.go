package hostabi

import "encoding/json"

// DatastoreRequest asks where cluster state lives.
type DatastoreRequest struct {
	Endpoint string `json:"endpoint"`  // --datastore-endpoint as given; may hold a password
	DBDir    string `json:"db_dir"`    // absolute directory for a database in a file
	NodeName string `json:"node_name"` // this node
}

// Datastore drivers the core can run.
const (
	DatastoreDriverKine = "kine" // kine on a unix socket in front of Endpoint
	DatastoreDriverEtcd = "etcd" // an etcd somebody else runs, at Endpoint
)

// DatastorePlan says how the core is to reach cluster state.
type DatastorePlan struct {
	Driver      string         `json:"driver"`      // a DatastoreDriver constant
	Endpoint    string         `json:"endpoint"`    // what the driver dials; may hold a secret, never logged
	Description string         `json:"description"` // for the log, without secrets
	TLS         TLSFiles       `json:"tls"`
	Pool        PoolPlan       `json:"pool"`
	Compaction  CompactionPlan `json:"compaction"`
	Shared      bool           `json:"shared"` // several servers may use this datastore at once
}

// TLSFiles are PEM files for the connection to a datastore; empty = not used.
type TLSFiles struct {
	CAFile   string `json:"ca_file,omitempty"`
	CertFile string `json:"cert_file,omitempty"`
	KeyFile  string `json:"key_file,omitempty"`
}

// PoolPlan bounds the connections of a driver; 0 leaves the driver's default.
type PoolPlan struct {
	MaxOpen                int `json:"max_open,omitempty"`
	MaxIdle                int `json:"max_idle,omitempty"`
	ConnMaxLifetimeSeconds int `json:"conn_max_lifetime_seconds,omitempty"`
}

// CompactionPlan says how the driver drops old revisions; 0 leaves the
// driver's default, except IntervalSeconds, where 0 turns compaction off.
type CompactionPlan struct {
	IntervalSeconds int   `json:"interval_seconds"`
	TimeoutSeconds  int   `json:"timeout_seconds,omitempty"`
	MinRetain       int64 `json:"min_retain,omitempty"` // revisions
	BatchSize       int64 `json:"batch_size,omitempty"` // revisions
}

// Values of CNIRequest.ProxyMode.
const (
	ProxyModeNFTables = "nftables"
	ProxyModeIPTables = "iptables"
)

// CNIRequest asks how the pods of a node reach each other. It is put at node
// start and again when one of its facts changes.
type CNIRequest struct {
	Plugin         string   `json:"plugin"`          // --cni, the plugin asked
	FlannelBackend string   `json:"flannel_backend"` // --flannel-backend as given
	ClusterCIDRs   []string `json:"cluster_cidrs"`
	ServiceCIDRs   []string `json:"service_cidrs"`
	ClusterDomain  string   `json:"cluster_domain"`
	ProxyMode      string   `json:"proxy_mode"` // a ProxyMode constant
	Node           CNINode  `json:"node"`

	// NetworkPolicy asks for NetworkPolicies to be enforced: the operator wants it and
	// the core has the driver. Since ABI 1.1.
	NetworkPolicy bool `json:"network_policy,omitempty"`
}

// CNINode is what is known about the node.
type CNINode struct {
	Name      string   `json:"name"`
	Addresses []string `json:"addresses"`
	Interface string   `json:"interface"` // link of the node address, "" if unknown
	MTU       int      `json:"mtu"`       // of Interface, 0 if unknown
	PodCIDRs  []string `json:"pod_cidrs"` // as assigned to the Node; a plugin that needs them fails while empty
}

// Network drivers the core can run.
const (
	CNIDriverFlannel = "flannel" // the flannel library keeps routes between nodes
	CNIDriverBridge  = "bridge"  // one node; masquerade and forwarding only
	CNIDriverNone    = "none"    // somebody else's CNI writes the conflist
)

// CNIPlan says how the core is to connect pods.
type CNIPlan struct {
	Driver       string `json:"driver"` // a CNIDriver constant
	Description  string `json:"description"`
	ConflistName string `json:"conflist_name,omitempty"` // base name in the CNI configuration directory
	// Conflist is the CNI configuration list, absent when the core is to write none.
	Conflist json.RawMessage `json:"conflist,omitempty"`
	MTU      int             `json:"mtu,omitempty"` // of pod links, bytes
	Flannel  *FlannelPlan    `json:"flannel,omitempty"`
	Bridge   *BridgePlan     `json:"bridge,omitempty"`
	// Sysctls are set before the driver starts: dotted name to value. A name
	// under net.bridge exists only once br_netfilter is loaded.
	Sysctls     map[string]string `json:"sysctls,omitempty"`
	RemoveLinks []string          `json:"remove_links,omitempty"` // links another plan left behind
	Manifests   []PlanManifest    `json:"manifests,omitempty"`    // handed to the deployer

	// NetworkPolicy is absent when the core is to enforce none. Since ABI 1.1.
	NetworkPolicy *NetworkPolicyPlan `json:"network_policy,omitempty"`
}

// Drivers of NetworkPolicy the core can run.
const (
	PolicyDriverNFTables = "nftables"
)

// NetworkPolicyPlan is what the driver of NetworkPolicy needs.
type NetworkPolicyPlan struct {
	Driver string `json:"driver"` // a PolicyDriver constant
	// Bridge is the link that pods are plugged into, if there is one. Between its ports
	// link-local IPv6, which no policy can name, is not let through.
	Bridge string `json:"bridge,omitempty"`
}

// Flannel backends the core can run.
const (
	FlannelVXLAN  = "vxlan"
	FlannelHostGW = "host-gw"
)

// FlannelPlan is what the flannel driver needs.
type FlannelPlan struct {
	Backend    string `json:"backend"`              // a Flannel backend constant
	Network    string `json:"network"`              // IPv4 cluster CIDR, "" where NetworkV6 is alone
	NetworkV6  string `json:"network_v6,omitempty"` // IPv6 cluster CIDR, "" for none
	Interface  string `json:"interface,omitempty"`  // empty = the default route's
	VNI        int    `json:"vni,omitempty"`        // vxlan only
	Port       int    `json:"port,omitempty"`       // vxlan only, UDP; 0 = the kernel's 8472
	NFTables   bool   `json:"nftables"`             // rules with nftables, else iptables
	Masquerade bool   `json:"masquerade"`           // hide pods behind the node outside its networks
}

// BridgePlan is what the bridge driver needs.
type BridgePlan struct {
	Name       string `json:"name"`                 // link
	Network    string `json:"network"`              // IPv4 cluster CIDR, not masqueraded inside; "" where NetworkV6 is alone
	NetworkV6  string `json:"network_v6,omitempty"` // IPv6 cluster CIDR, likewise; "" for none
	NFTables   bool   `json:"nftables"`
	Masquerade bool   `json:"masquerade"`
}

// PlanManifest is a file for the deployer.
type PlanManifest struct {
	Name    string `json:"name"` // base name with extension
	Content string `json:"content"`
}

// What a DeployRequest is about.
const (
	DeployKindFile      = "file"      // a text file: Content holds it
	DeployKindArchive   = "archive"   // a file that is no text; it stays with the host, for render_helm
	DeployKindDirectory = "directory" // a directory with all below it; it stays with the host, Files names it
)

// DeployRequest asks what a file of the manifests directory holds.
type DeployRequest struct {
	File      string            `json:"file"`      // base name, of a directory too
	Addon     string            `json:"addon"`     // base name up to the first dot
	Content   string            `json:"content"`   // UTF-8 text; empty unless Kind is DeployKindFile
	Variables map[string]string `json:"variables"` // CLUSTER_DNS and so on, without percent signs

	// Since ABI 1.1.
	Kind       string            `json:"kind,omitempty"`       // a DeployKind constant
	Files      []string          `json:"files,omitempty"`      // of a directory: slash-separated paths, sorted
	Companions map[string]string `json:"companions,omitempty"` // text files beside it that the manifest claims with it, by pattern
}

// DeployResult is what the core is to apply, in order.
type DeployResult struct {
	Objects  []json.RawMessage `json:"objects"` // each with apiVersion, kind and metadata.name
	Warnings []string          `json:"warnings,omitempty"`
}

// HelmRequest asks render_helm for the objects of a chart.
type HelmRequest struct {
	Release   string          `json:"release"`           // 1 to 53 characters of a DNS label
	Namespace string          `json:"namespace"`         // of the release
	Values    json.RawMessage `json:"values,omitempty"`  // an object, over the chart's own values
	Archive   string          `json:"archive,omitempty"` // a .tgz in base64; empty = the input of the hook
}

// HelmResult is what a chart renders to. Objects are in the order in which Helm
// installs kinds; tests are left out.
type HelmResult struct {
	Name     string            `json:"name"`    // of the chart
	Version  string            `json:"version"` // of the chart
	CRDs     []json.RawMessage `json:"crds,omitempty"`
	Objects  []json.RawMessage `json:"objects,omitempty"`
	Hooks    []HelmHook        `json:"hooks,omitempty"`
	Warnings []string          `json:"warnings,omitempty"`
}

// HelmHook is an object that Helm would create at a certain moment of a
// release and not keep.
type HelmHook struct {
	Events []string        `json:"events"` // pre-install, post-upgrade, …
	Object json.RawMessage `json:"object"`
}

// KustomizeRequest asks render_kustomize for the objects of a kustomization.
type KustomizeRequest struct {
	Path string `json:"path,omitempty"` // below the directory of the hook; empty = the directory itself
}
