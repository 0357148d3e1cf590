// Command cni-bridge is the cleat plugin that connects the pods of one node on
// a bridge.
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
	MTU        int  `json:"mtu"`
	Masquerade bool `json:"masquerade"`
}

const bridge = "cni0"

func (p *plugin) configure() error {
	p.config = config{}
	if err := plan.Config(&p.config); err != nil {
		return err
	}
	if p.config.MTU < 0 {
		return fmt.Errorf("config mtu: %d, want 0 or more", p.config.MTU)
	}
	return nil
}

func (p *plugin) plan(req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	decided := hostabi.CNIPlan{
		Driver:       hostabi.CNIDriverBridge,
		ConflistName: "10-bridge.conflist",
		RemoveLinks:  []string{"flannel.1", "flannel-v6.1"}, // of cni-flannel
	}
	nftables, err := cni.UseNFTables(req.ProxyMode)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	networks, pods, err := cni.Ranges(req)
	if err != nil {
		return hostabi.CNIPlan{}, err
	}
	decided.Sysctls = cni.Sysctls(networks, req.Node.Interface)
	if decided.MTU, err = cni.MTU(p.config.MTU, req.Node, 0, networks); err != nil {
		return hostabi.CNIPlan{}, err
	}
	decided.Description = fmt.Sprintf("bridge %s for %s, on this node only: pods of other nodes are out of reach", bridge, strings.Join(pods.List(), " and "))
	decided.Bridge = &hostabi.BridgePlan{
		Name:       bridge,
		Network:    networks.V4,
		NetworkV6:  networks.V6,
		NFTables:   nftables,
		Masquerade: p.config.Masquerade,
	}
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
