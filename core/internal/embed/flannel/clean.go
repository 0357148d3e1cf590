package flannel

import (
	"context"
	"errors"
	"fmt"

	"github.com/coreos/go-iptables/iptables"
	"sigs.k8s.io/knftables"

	"github.com/cleat-dev/cleat/hostabi"
)

// Clean removes the packet filter rules that Run with this plan left, and with host-gw
// the routes to other nodes. The library's own clean-up looks for a chain in the wrong
// table and leaves the jumps, so that the chains cannot be deleted.
func Clean(ctx context.Context, plan hostabi.FlannelPlan) error {
	var err error
	if plan.Backend == hostabi.FlannelHostGW {
		err = cleanGateways(plan)
	}
	if plan.NFTables {
		return errors.Join(err, cleanNFTables(ctx))
	}
	return errors.Join(err, cleanIPTables())
}

func cleanNFTables(ctx context.Context) error {
	var errs []error
	for table, family := range map[string]knftables.Family{
		"flannel-ipv4": knftables.IPv4Family,
		"flannel-ipv6": knftables.IPv6Family,
	} {
		nft, err := knftables.New(family, table)
		if err != nil {
			return fmt.Errorf("flannel: nftables: %w", err)
		}
		tx := nft.NewTransaction()
		// Adding first makes deleting what is not there no error.
		tx.Add(&knftables.Table{})
		tx.Delete(&knftables.Table{})
		if err := nft.Run(ctx, tx); err != nil {
			errs = append(errs, fmt.Errorf("flannel: nftables table %s: %w", table, err))
		}
	}
	return errors.Join(errs...)
}

func cleanIPTables() error {
	return errors.Join(cleanFamily(iptables.ProtocolIPv4), cleanFamily(iptables.ProtocolIPv6))
}

func cleanFamily(family iptables.Protocol) error {
	ipt, err := iptables.New(iptables.IPFamily(family), iptables.Timeout(5))
	if err != nil {
		return fmt.Errorf("flannel: iptables: %w", err)
	}
	var errs []error
	for _, c := range []struct{ table, from, chain, comment string }{
		{"nat", "POSTROUTING", "FLANNEL-POSTRTG", "flanneld masq"},
		{"filter", "FORWARD", "FLANNEL-FWD", "flanneld forward"},
	} {
		exists, err := ipt.ChainExists(c.table, c.chain)
		if err == nil && exists {
			err = errors.Join(
				ipt.DeleteIfExists(c.table, c.from, "-m", "comment", "--comment", c.comment, "-j", c.chain),
				ipt.ClearAndDeleteChain(c.table, c.chain))
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("flannel: iptables chain %s: %w", c.chain, err))
		}
	}
	return errors.Join(errs...)
}
