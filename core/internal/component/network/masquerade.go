package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/coreos/go-iptables/iptables"
	"sigs.k8s.io/knftables"

	"github.com/cleat-dev/cleat/hostabi"
)

// Names of what is ours in the packet filter.
const (
	nftTable        = "cleat-masq"
	nftChain        = "postrouting"
	iptMasquerade   = "CLEAT-POSTROUTING"
	iptForward      = "CLEAT-FORWARD"
	iptComment      = "cleat: pods of the bridge network"
	multicastIPv4   = "224.0.0.0/4"
	multicastIPv6   = "ff00::/8"
	tableNAT        = "nat"
	tableFilter     = "filter"
	chainPostrouted = "POSTROUTING"
	chainForwarded  = "FORWARD"
)

func (machine) Masquerade(ctx context.Context, m masquerade) error {
	if m.Kind == hostabi.ProxyModeNFTables {
		return nftMasquerade(ctx, m)
	}
	return iptablesMasquerade(m)
}

func (machine) Unmasquerade(ctx context.Context, kind string) error {
	if kind == hostabi.ProxyModeNFTables {
		return nftClean(ctx)
	}
	return iptablesClean()
}

// nftMasquerade replaces our table in one transaction.
func nftMasquerade(ctx context.Context, m masquerade) error {
	family, match, multicast := knftables.IPv4Family, "ip", multicastIPv4
	if m.Network.Addr().Is6() {
		family, match, multicast = knftables.IPv6Family, "ip6", multicastIPv6
	}
	nft, err := knftables.New(family, nftTable)
	if err != nil {
		return err
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{Comment: knftables.PtrTo(iptComment)})
	tx.Add(&knftables.Chain{
		Name:     nftChain,
		Type:     knftables.PtrTo(knftables.NATType),
		Hook:     knftables.PtrTo(knftables.PostroutingHook),
		Priority: knftables.PtrTo(knftables.SNATPriority),
	})
	tx.Flush(&knftables.Chain{Name: nftChain})
	for _, pods := range m.Pods {
		for _, dst := range []string{m.Network.String(), multicast} {
			tx.Add(&knftables.Rule{Chain: nftChain, Rule: knftables.Concat(match, "saddr", pods.String(), match, "daddr", dst, "return")})
		}
		tx.Add(&knftables.Rule{Chain: nftChain, Rule: knftables.Concat(match, "saddr", pods.String(), "masquerade fully-random")})
	}
	return nft.Run(ctx, tx)
}

func nftClean(ctx context.Context) error {
	var errs []error
	for _, family := range []knftables.Family{knftables.IPv4Family, knftables.IPv6Family} {
		nft, err := knftables.New(family, nftTable)
		if err != nil {
			return err
		}
		tx := nft.NewTransaction()
		// Adding first makes deleting what is not there no error.
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		errs = append(errs, nft.Run(ctx, tx))
	}
	return errors.Join(errs...)
}

func newIPTables(network netip.Prefix) (*iptables.IPTables, string, error) {
	protocol, multicast := iptables.ProtocolIPv4, multicastIPv4
	if network.Addr().Is6() {
		protocol, multicast = iptables.ProtocolIPv6, multicastIPv6
	}
	// Wait for the lock as long as kube-proxy does, which holds it at times.
	ipt, err := iptables.New(iptables.IPFamily(protocol), iptables.Timeout(5))
	return ipt, multicast, err
}

// iptablesMasquerade fills our chains and jumps to them. Unlike nftables, one
// table's verdict is final here, so that pods must be accepted where another
// program drops what is forwarded.
func iptablesMasquerade(m masquerade) error {
	ipt, multicast, err := newIPTables(m.Network)
	if err != nil {
		return err
	}
	masq, forward := [][]string{}, [][]string{}
	for _, pods := range m.Pods {
		masq = append(masq,
			[]string{"-s", pods.String(), "-d", m.Network.String(), "-j", "RETURN"},
			[]string{"-s", pods.String(), "-d", multicast, "-j", "RETURN"},
			[]string{"-s", pods.String(), "-j", "MASQUERADE", "--random-fully"})
		forward = append(forward,
			[]string{"-s", pods.String(), "-j", "ACCEPT"},
			[]string{"-d", pods.String(), "-j", "ACCEPT"})
	}
	return errors.Join(
		ensureChain(ipt, tableNAT, chainPostrouted, iptMasquerade, masq),
		ensureChain(ipt, tableFilter, chainForwarded, iptForward, forward))
}

// ensureChain makes chain hold exactly these rules; it is filled anew only if
// it does not.
func ensureChain(ipt *iptables.IPTables, table, from, chain string, rules [][]string) error {
	exists, err := ipt.ChainExists(table, chain)
	if err != nil {
		return fmt.Errorf("iptables chain %s: %w", chain, err)
	}
	same := exists
	if exists {
		have, err := ipt.List(table, chain)
		if err != nil {
			return fmt.Errorf("iptables chain %s: %w", chain, err)
		}
		same = len(have) == len(rules)+1 // and the chain itself
	}
	for _, rule := range rules {
		if !same {
			break
		}
		if same, err = ipt.Exists(table, chain, rule...); err != nil {
			return fmt.Errorf("iptables chain %s: %w", chain, err)
		}
	}
	if !same {
		if err := ipt.ClearChain(table, chain); err != nil {
			return fmt.Errorf("iptables chain %s: %w", chain, err)
		}
		for _, rule := range rules {
			if err := ipt.Append(table, chain, rule...); err != nil {
				return fmt.Errorf("iptables chain %s: %w", chain, err)
			}
		}
	}
	if err := ipt.InsertUnique(table, from, 1, jump(chain)...); err != nil {
		return fmt.Errorf("iptables chain %s: %w", from, err)
	}
	return nil
}

func jump(chain string) []string {
	return []string{"-m", "comment", "--comment", iptComment, "-j", chain}
}

func iptablesClean() error {
	var errs []error
	for _, family := range []string{"0.0.0.0/0", "::/0"} {
		ipt, _, err := newIPTables(netip.MustParsePrefix(family))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		for _, c := range []struct{ table, from, chain string }{
			{tableNAT, chainPostrouted, iptMasquerade}, {tableFilter, chainForwarded, iptForward},
		} {
			exists, err := ipt.ChainExists(c.table, c.chain)
			if err != nil || !exists {
				errs = append(errs, err)
				continue
			}
			errs = append(errs,
				ipt.DeleteIfExists(c.table, c.from, jump(c.chain)...),
				ipt.ClearAndDeleteChain(c.table, c.chain))
		}
	}
	return errors.Join(errs...)
}
