// Package paths names every file and directory of a node, so that the layout
// of the data directory is read in one place. It touches no disk.
package paths

import "path/filepath"

// Fixed places outside the data directory.
const (
	RunDir        = "/run/cleat"
	EtcDir        = "/etc/cleat"
	PluginKeys    = EtcDir + "/plugin-keys"   // public keys, *.pub, of those whose plugins are trusted
	NodePassword  = EtcDir + "/node/password" // outlives the data directory: a wiped node keeps its name
	NodeID        = EtcDir + "/node/id"       // of --with-node-id; outlives the data directory as well
	CNIConfDir    = "/etc/cni/net.d"
	CNIBinDir     = "/opt/cni/bin"          // where a foreign CNI puts its plugins; ours are in the payload
	CNIResults    = "/var/lib/cni/results"  // where the CNI library records what it has attached
	KubeletDir    = "/var/lib/kubelet"      // CSI drivers expect it there
	StatusSocket  = RunDir + "/status.sock" // what `cleat status` asks
	KineSocket    = RunDir + "/kine.sock"   // the datastore's client endpoint
	ContainerdDir = RunDir + "/containerd"  // containerd's state
	CRISocket     = ContainerdDir + "/containerd.sock"
)

// Data is a node's data directory, /var/lib/cleat unless configured.
type Data string

func (d Data) join(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// The server's half.
func (d Data) Server() string               { return d.join("server") }
func (d Data) TLS(name string) string       { return d.join("server", "tls", name) }
func (d Data) Cred(name string) string      { return d.join("server", "cred", name) } // kubeconfigs, node password
func (d Data) ServerEtc(name string) string { return d.join("server", "etc", name) }  // configuration that we generate
func (d Data) Token() string                { return d.join("server", "token") }
func (d Data) NextToken() string            { return d.join("server", "token.next") }  // there while the token is rotated
func (d Data) NodeToken() string            { return d.join("server", "node-token") }  // symlink to Token
func (d Data) AgentToken() string           { return d.join("server", "agent-token") } // symlink to Token unless --agent-token
func (d Data) DB() string                   { return d.join("server", "db") }
func (d Data) Manifests() string            { return d.join("server", "manifests") }
func (d Data) Running() string              { return d.join("server", "running") } // there while a server runs

// The agent's half.
func (d Data) Agent(elem ...string) string { return d.join(append([]string{"agent"}, elem...)...) }
func (d Data) AgentTLS(name string) string { return d.Agent("tls", name) } // client-kubelet.crt …
func (d Data) Kubeconfig(name string) string {
	return d.Agent(name + ".kubeconfig") // kubelet, kubeproxy, network
}
func (d Data) Images() string     { return d.Agent("images") }
func (d Data) Containerd() string { return d.Agent("containerd") }
func (d Data) ContainerdConfig() string {
	return d.Agent("etc", "containerd", "config.toml")
}
func (d Data) ContainerdTemplate() string { return d.ContainerdConfig() + ".tmpl" }
func (d Data) RegistryHosts() string      { return d.Agent("etc", "containerd", "certs.d") }
func (d Data) CrictlConfig() string       { return d.Agent("etc", "crictl.yaml") }
func (d Data) Kubelet() string            { return d.Agent("kubelet") }
func (d Data) LoadBalancer() string       { return d.Agent("etc", "loadbalancer.json") } // the servers last known

// What is extracted from the binary, by digest.
func (d Data) Payload() string { return d.join("data") } // <digest>/bin below it, .lock beside them

// Plugins.
func (d Data) Plugins() string     { return d.join("plugins") }
func (d Data) PluginCache() string { return d.join("plugins", "cache") } // compiled code, root only
func (d Data) PluginCaptures() string {
	return d.join("plugins", "captures") // calls kept for a replay, root only
}
func (d Data) FetchedPlugins(elem ...string) string { // <digest>.wasm that an agent has from a server
	return d.Agent(append([]string{"plugins"}, elem...)...)
}
