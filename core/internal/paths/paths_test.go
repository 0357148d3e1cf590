package paths

import "testing"

// The layout is a promise: an upgrade finds what an older version wrote.
func TestLayout(t *testing.T) {
	d := Data("/var/lib/cleat")
	for got, want := range map[string]string{
		d.Server():                   "/var/lib/cleat/server",
		d.TLS("server-ca.crt"):       "/var/lib/cleat/server/tls/server-ca.crt",
		d.Cred("admin.kubeconfig"):   "/var/lib/cleat/server/cred/admin.kubeconfig",
		d.ServerEtc("a.yaml"):        "/var/lib/cleat/server/etc/a.yaml",
		d.Token():                    "/var/lib/cleat/server/token",
		d.NodeToken():                "/var/lib/cleat/server/node-token",
		d.DB():                       "/var/lib/cleat/server/db",
		d.Manifests():                "/var/lib/cleat/server/manifests",
		d.Agent():                    "/var/lib/cleat/agent",
		d.AgentTLS("client-ca.crt"):  "/var/lib/cleat/agent/tls/client-ca.crt",
		d.Kubeconfig("kubelet"):      "/var/lib/cleat/agent/kubelet.kubeconfig",
		d.Images():                   "/var/lib/cleat/agent/images",
		d.Containerd():               "/var/lib/cleat/agent/containerd",
		d.ContainerdConfig():         "/var/lib/cleat/agent/etc/containerd/config.toml",
		d.ContainerdTemplate():       "/var/lib/cleat/agent/etc/containerd/config.toml.tmpl",
		d.RegistryHosts():            "/var/lib/cleat/agent/etc/containerd/certs.d",
		d.CrictlConfig():             "/var/lib/cleat/agent/etc/crictl.yaml",
		d.Kubelet():                  "/var/lib/cleat/agent/kubelet",
		d.Payload():                  "/var/lib/cleat/data",
		d.Plugins():                  "/var/lib/cleat/plugins",
		d.PluginCache():              "/var/lib/cleat/plugins/cache",
		d.FetchedPlugins():           "/var/lib/cleat/agent/plugins",
		Data("/srv/cleat/").Server(): "/srv/cleat/server",
	} {
		if got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
