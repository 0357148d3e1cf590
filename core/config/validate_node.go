package config

import (
	"net/netip"
	"path/filepath"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cleat-dev/cleat/core/internal/version"
)

func (v *checker) node() {
	c := v.c
	if msgs := validation.IsDNS1123Subdomain(c.NodeName); c.NodeName != "" && len(msgs) > 0 {
		v.bad("node-name", c.NodeName, "not a node's name: %s; give another with --node-name", reasons(msgs))
	}
	v.nodeIPs()
	v.externalIPs()
	v.nodeNames("node-internal-dns", c.NodeInternalDNS)
	v.nodeNames("node-external-dns", c.NodeExternalDNS)
	for _, label := range c.NodeLabel {
		v.label(label)
	}
	for _, taint := range c.NodeTaint {
		v.taint(taint)
	}
	if !isWord(c.Snapshotter) {
		v.bad("snapshotter", c.Snapshotter, "not a snapshotter's name; write one such as overlayfs or native")
	}
	if c.PauseImage == "" || strings.ContainsAny(c.PauseImage, " \t\"'") {
		v.bad("pause-image", c.PauseImage, "not an image's name; leave the flag out for %s", version.PauseImage)
	}
	v.socket("container-runtime-endpoint", c.ContainerRuntimeEndpoint)
	v.socket("image-service-endpoint", c.ImageServiceEndpoint)
	v.ownRuntime()
	if (c.ImageCredentialProviderBinDir == "") != (c.ImageCredentialProviderConfig == "") {
		name, value := "image-credential-provider-bin-dir", c.ImageCredentialProviderBinDir
		if value == "" {
			name, value = "image-credential-provider-config", c.ImageCredentialProviderConfig
		}
		v.bad(name, value, "the kubelet wants both; give --image-credential-provider-bin-dir and --image-credential-provider-config")
	}
	// The kernel's own bound, and what no link's name holds.
	if len(c.FlannelIface) > 15 || strings.ContainsAny(c.FlannelIface, "/ \t") {
		v.bad("flannel-iface", shortened(c.FlannelIface), "not a link's name; write one such as eth0")
	}
}

func (v *checker) socket(name, value string) {
	if value != "" && !filepath.IsAbs(strings.TrimPrefix(value, "unix://")) {
		v.bad(name, value, "not a unix socket; write unix:///path or /path")
	}
}

// ownRuntime checks what is written into the built-in containerd's
// configuration, which somebody else's runtime does not have.
func (v *checker) ownRuntime() {
	c := v.c
	if !isWord(strings.ReplaceAll(c.DefaultRuntime, "_", "-")) {
		v.bad("default-runtime", c.DefaultRuntime, "not a runtime's name; write one such as runc")
	}
	if c.ContainerRuntimeEndpoint == "" {
		return
	}
	const foreign = "has no effect on the runtime that --container-runtime-endpoint names; leave one of them out"
	if c.DefaultRuntime != "runc" {
		v.bad("default-runtime", c.DefaultRuntime, foreign)
	}
	if c.NonrootDevices {
		v.bad("nonroot-devices", "true", foreign)
	}
	if c.DisableDefaultRegistryEndpoint {
		v.bad("disable-default-registry-endpoint", "true", foreign)
	}
}

func (v *checker) nodeIPs() {
	c := v.c
	if len(c.NodeIP) == 0 {
		return
	}
	var addrs []netip.Addr
	for _, s := range c.NodeIP {
		a := v.address("node-ip", s, "192.168.1.10")
		switch {
		case !a.IsValid():
			return
		case !a.IsGlobalUnicast():
			v.bad("node-ip", s, "other machines cannot reach such an address; write one that they can")
		case c.insideCluster(a):
			v.bad("node-ip", s, "lies in --cluster-cidr or --service-cidr; choose ranges that are not in use on the network")
		case len(c.Host.Addresses) > 0 && !slices.Contains(c.Host.Addresses, a):
			v.bad("node-ip", s, "on no interface of this machine, which has %s", join(c.Host.Addresses))
		}
		addrs = append(addrs, a)
	}
	for _, six := range c.families() {
		if _, ok := firstOf(addrs, six); !ok && len(c.ClusterCIDR) > 0 {
			v.bad("node-ip", strings.Join(c.NodeIP, ","), "has no address of a family that --cluster-cidr %s has; give one for each",
				strings.Join(c.ClusterCIDR, ","))
			break
		}
	}
	if len(addrs) > 2 || len(addrs) == 2 && addrs[0].Is6() == addrs[1].Is6() {
		v.bad("node-ip", strings.Join(c.NodeIP, ","), "give one address, or one of IPv4 and one of IPv6")
	}
}

// externalIPs checks the addresses from outside, which need not be on an interface:
// a router may have them.
func (v *checker) externalIPs() {
	c := v.c
	var addrs []netip.Addr
	for _, s := range c.NodeExternalIP {
		a := v.address("node-external-ip", s, "198.51.100.10")
		switch {
		case !a.IsValid():
			return
		case !a.IsGlobalUnicast():
			v.bad("node-external-ip", s, "other machines cannot reach such an address; write one that they can")
		case c.insideCluster(a):
			v.bad("node-external-ip", s, "lies in --cluster-cidr or --service-cidr, where it would be taken for a pod's or a service's; write the address of the machine")
		}
		addrs = append(addrs, a)
	}
	if len(addrs) > 2 || len(addrs) == 2 && addrs[0].Is6() == addrs[1].Is6() {
		v.bad("node-external-ip", strings.Join(c.NodeExternalIP, ","), "give one address, or one of IPv4 and one of IPv6")
	}
}

// maxNodeNames bounds how many names a node's list of addresses may hold.
const maxNodeNames = 8

func (v *checker) nodeNames(option string, names []string) {
	for _, name := range names {
		if msgs := validation.IsDNS1123Subdomain(name); len(msgs) > 0 {
			v.bad(option, shortened(name), "not a DNS name: %s", reasons(msgs))
		}
	}
	if len(names) > maxNodeNames {
		v.bad(option, shortened(strings.Join(names, ",")), "more than %d names", maxNodeNames)
	}
}

func (c *Config) insideCluster(a netip.Addr) bool {
	_, taken := c.splitClusterAddresses([]netip.Addr{a})
	return len(taken) > 0
}

func join(addrs []netip.Addr) string {
	s := make([]string, len(addrs))
	for i, a := range addrs {
		s[i] = a.String()
	}
	return strings.Join(s, ", ")
}

func (v *checker) label(label string) {
	key, value, ok := strings.Cut(label, "=")
	if !ok {
		v.bad("node-label", label, "has no value; write key=value, or %q for an empty one", label+"=")
		return
	}
	if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		v.bad("node-label", label, "the key: %s", reasons(msgs))
	} else if !nodeMaySet(key) {
		v.bad("node-label", label, "a node may not give itself labels of kubernetes.io or k8s.io; set it with `cleat kubectl label node`, or use another prefix")
	}
	if msgs := validation.IsValidLabelValue(value); len(msgs) > 0 {
		v.bad("node-label", label, "the value: %s", reasons(msgs))
	}
}

// nodeMaySet repeats the rule by which the kubelet refuses to start and the
// NodeRestriction plugin to register a node: of the prefixes that belong to
// Kubernetes only some are open to nodes.
func nodeMaySet(key string) bool {
	prefix, _, found := strings.Cut(key, "/")
	if !found || !inDomain(prefix, "kubernetes.io") && !inDomain(prefix, "k8s.io") {
		return true
	}
	if inDomain(prefix, "kubelet.kubernetes.io") || inDomain(prefix, "node.kubernetes.io") {
		return true
	}
	return slices.Contains([]string{
		"kubernetes.io/hostname", "kubernetes.io/arch", "kubernetes.io/os",
		"beta.kubernetes.io/arch", "beta.kubernetes.io/os", "beta.kubernetes.io/instance-type",
		"topology.kubernetes.io/region", "topology.kubernetes.io/zone",
		"failure-domain.beta.kubernetes.io/region", "failure-domain.beta.kubernetes.io/zone",
	}, key)
}

func inDomain(name, domain string) bool {
	return name == domain || strings.HasSuffix(name, "."+domain)
}

func (v *checker) taint(taint string) {
	const form = "write key=value:effect or key:effect"
	i := strings.LastIndexByte(taint, ':')
	if i < 0 {
		v.bad("node-taint", taint, "has no effect; "+form)
		return
	}
	if effect := taint[i+1:]; !slices.Contains([]string{"NoSchedule", "PreferNoSchedule", "NoExecute"}, effect) {
		v.bad("node-taint", taint, "unknown effect %q; write NoSchedule, PreferNoSchedule or NoExecute", effect)
	}
	key, value, _ := strings.Cut(taint[:i], "=")
	if msgs := validation.IsQualifiedName(key); len(msgs) > 0 {
		v.bad("node-taint", taint, "the key: %s; "+form, reasons(msgs))
	}
	if msgs := validation.IsValidLabelValue(value); len(msgs) > 0 {
		v.bad("node-taint", taint, "the value: %s; "+form, reasons(msgs))
	}
}
