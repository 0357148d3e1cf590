// Command cni-flannel is the cleat plugin that connects the pods of all nodes
// through flannel.
package main

import (
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/cni"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() {
	p := &plugin{}
	pluginsdk.OnInit(p.configure)
	cni.Register(p.plan)
}

// plugin decides with its configuration.
type plugin struct {
	config config
}

type config struct {
	VNI        int  `json:"vni"`
	Port       int  `json:"port"`
	MTU        int  `json:"mtu"`
	Masquerade bool `json:"masquerade"`
}

const (
	bridge          = "cni0"
	vxlanOverhead   = 50 // bytes of the outer headers over IPv4
	vxlanOverheadV6 = 70 // over IPv6
	maxVNI          = 1<<24 - 1
)

func (p *plugin) configure() error {
	p.config = config{}
	if err := plan.Config(&p.config); err != nil {
		return err
	}
	switch c := p.config; {
	case c.VNI < 1 || c.VNI > maxVNI:
		return fmt.Errorf("config vni: %d, want 1 to %d", c.VNI, maxVNI)
	case c.Port < 0 || c.Port > 65535:
		return fmt.Errorf("config port: %d, want 0 to 65535", c.Port)
	case c.MTU < 0:
		return fmt.Errorf("config mtu: %d, want 0 or more", c.MTU)
	}
	return nil
}

func (p *plugin) plan(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	flannel := hostabi.FlannelPlan{
		Backend:    req.FlannelBackend,
		Interface:  req.Node.Interface,
		Masquerade: p.config.Masquerade,
	}
	decided := hostabi.CNIPlan{
		Driver:       hostabi.CNIDriverFlannel,
		ConflistName: "10-flannel.conflist",
		Flannel:      &flannel,
	}
	overhead := 0
	switch req.FlannelBackend {
	case hostabi.FlannelVXLAN:
		overhead = vxlanOverhead
		flannel.VNI, flannel.Port = p.config.VNI, p.config.Port
	case hostabi.FlannelHostGW:
		decided.RemoveLinks = []string{fmt.Sprintf("flannel.%d", p.config.VNI), fmt.Sprintf("flannel-v6.%d", p.config.VNI)}
	case "none":
		return hostabi.CNIPlan{}, fmt.Errorf("flannel-backend none asks for no network from cleat; use --cni cni-none to bring your own")
	default:
		return hostabi.CNIPlan{}, fmt.Errorf("flannel-backend %q is unknown; use %s or %s", req.FlannelBackend, hostabi.FlannelVXLAN, hostabi.FlannelHostGW)
	}
	var err error
	if flannel.NFTables, err = cni.UseNFTables(req.ProxyMode); err != nil {
		return hostabi.CNIPlan{}, err
	}
	networks, pods, err := cni.Ranges(req)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	flannel.Network, flannel.NetworkV6 = networks.V4, networks.V6
	decided.Sysctls = cni.Sysctls(networks, req.Node.Interface)
	if networks.V6 != "" && req.FlannelBackend == hostabi.FlannelVXLAN {
		overhead = vxlanOverheadV6
	}
	if decided.MTU, err = cni.MTU(p.config.MTU, req.Node, overhead, networks); err != nil {
		return hostabi.CNIPlan{}, err
	}
	decided.Description = fmt.Sprintf("flannel %s for %s, pods of this node in %s", flannel.Backend, strings.Join(networks.List(), " and "), strings.Join(pods.List(), " and "))
	decided.NetworkPolicy = cni.NetworkPolicy(req, bridge)
	decided.Conflist, err = cni.BridgeNetwork{
		Name:      "cbr0",
		Bridge:    bridge,
		MTU:       decided.MTU,
		PodCIDRs:  pods.List(),
		Routes:    networks.List(),
		ProxyMode: req.ProxyMode,
	}.Conflist()
	return decided, err
}
