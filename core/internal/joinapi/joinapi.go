// Package joinapi is the protocol between a node and a server's supervisor:
// paths, headers, bodies and their limits. Both ends import it, so it holds
// nothing that only one of them needs.
package joinapi

// Paths that need no credentials.
const (
	PathPing    = "/ping"    // GET: "pong"
	PathCACerts = "/cacerts" // GET: the server CA's certificates, PEM
)

// Prefix is what all other paths of the supervisor begin with; but for PathReady
// they need the token, or a node's own client certificate.
const Prefix = "/v1-cleat/"

// Paths below Prefix. The four certificate paths take a POST whose body is a
// PEM certificate request and answer with the PEM certificate; only the key is
// taken from it. It may be without a subject, and must not ask for more than the
// path gives.
const (
	PathServingKubelet  = Prefix + "serving-kubelet.crt"
	PathClientKubelet   = Prefix + "client-kubelet.crt"
	PathClientKubeProxy = Prefix + "client-kube-proxy.crt"
	PathClientNetwork   = Prefix + "client-network.crt"
	PathConfig          = Prefix + "config"        // GET: NodeConfig
	PathClientCA        = Prefix + "client-ca.crt" // GET: PEM, for the kubelet's own listener
	PathServerCA        = Prefix + "server-ca.crt" // GET: PEM, as PathCACerts
	PathServers         = Prefix + "apiservers"    // GET: Servers
	PathReady           = Prefix + "readyz"        // GET: 200 when the API server answers behind the supervisor; anybody may ask
	PathPlugins         = Prefix + "plugins.lock"  // GET: the lock of the plugin that decides the network
	PathPlugin          = Prefix + "plugin.wasm"   // GET ?sha256=<64 hex digits>: a plugin of that lock
	PathToken           = Prefix + "token"         // PUT: Rotation, by who holds the servers' token; answers with advice
	PathConnect         = Prefix + "connect"       // GET: a websocket, the node's tunnel; by its own certificate alone
)

// Request headers of the certificate paths. PathConfig takes those of name and password
// too: a node learns at once whether its name is somebody else's.
const (
	HeaderNodeName     = "Cleat-Node-Name"
	HeaderNodePassword = "Cleat-Node-Password" // proves that the node of this name is the one that had it first
	HeaderNodeIP       = "Cleat-Node-Ip"       // comma-separated addresses for the serving certificate
)

// Limits that both ends apply.
const (
	// QueryDigest is the parameter of PathPlugin.
	QueryDigest = "sha256"

	MaxRequestBody = 16 << 10  // a certificate request is 1 KiB, with the largest key 4
	MaxRotation    = 2 << 10   // of tokens the longest has 1 KiB
	MaxAnswerBody  = 256 << 10 // certificates, config
	MaxNodeIPs     = 16
)

// Kubernetes users and groups of the certificates that the supervisor signs.
const (
	UserNodePrefix = "system:node:"
	GroupNodes     = "system:nodes"
	UserKubeProxy  = "system:kube-proxy"
	UserNetwork    = "cleat-network" // bound to what the network's backend needs of nodes
)

// NodeUser is the Kubernetes user of a node's kubelet.
func NodeUser(name string) string { return UserNodePrefix + name }
