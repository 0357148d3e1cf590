package cleanup

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// removeLinks removes the links that the network plan made, as its record tells,
// and the routes to other nodes' pods.
func (j *job) removeLinks() {
	const kind = "links"
	if len(j.facts.neighbours) > 0 {
		j.tell(kind, "stay: %s runs here too", strings.Join(j.facts.neighbours, ", "))
		return
	}
	all, err := j.host.Links()
	if err != nil {
		j.fail(kind, err)
		return
	}
	var ours []string
	for _, l := range all {
		if j.isOurLink(l) {
			ours = append(ours, l.Name)
		}
	}
	// A bridge goes after what is plugged into it.
	slices.SortStableFunc(ours, func(a, b string) int {
		return boolInt(slices.Contains(j.facts.network.bridges, a)) - boolInt(slices.Contains(j.facts.network.bridges, b))
	})
	j.each(kind, "remove", "removed", ours, j.host.RemoveLink)
	j.removeRoutes()
}

func boolInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (j *job) isOurLink(l link) bool {
	n := j.facts.network
	switch l.Kind {
	case "bridge":
		return slices.Contains(n.bridges, l.Name)
	case "veth":
		return slices.Contains(n.bridges, l.Master)
	case "vxlan":
		return n.Flannel != nil && (l.Name == fmt.Sprintf("flannel.%d", n.Flannel.VNI) || l.Name == fmt.Sprintf("flannel-v6.%d", n.Flannel.VNI))
	case "dummy":
		return l.Name == "kube-ipvs0" && j.facts.node
	}
	return false
}

// removeRoutes removes those that flannel's host-gw sets; others go with their link.
func (j *job) removeRoutes() {
	f := j.facts.network.Flannel
	if f == nil || f.Backend != "host-gw" {
		return
	}
	var networks []netip.Prefix
	for _, text := range []string{f.Network, f.NetworkV6} {
		if text == "" {
			continue
		}
		pods, err := netip.ParsePrefix(text)
		if err != nil {
			j.fail("routes", fmt.Errorf("record of the network plan: network %q: %w", text, err))
			return
		}
		networks = append(networks, pods)
	}
	all, err := j.host.Routes()
	if err != nil {
		j.fail("routes", err)
		return
	}
	ours := make(map[string]route)
	var names []string
	for _, r := range all {
		if slices.ContainsFunc(networks, func(pods netip.Prefix) bool {
			return r.Destination.Bits() > pods.Bits() && pods.Contains(r.Destination.Addr())
		}) {
			name := fmt.Sprintf("%s via %s", r.Destination, r.Gateway)
			ours[name], names = r, append(names, name)
		}
	}
	if len(names) > 0 {
		j.each("routes", "remove", "removed", names, func(name string) error { return j.host.RemoveRoute(ours[name]) })
	}
}
