package netpolicy

import (
	"fmt"
	"net/netip"
	"slices"

	networkingv1 "k8s.io/api/networking/v1"
	netutils "k8s.io/utils/net"
)

// addrRange is addresses of one family, both ends included.
type addrRange struct {
	low, high netip.Addr
}

func (r addrRange) String() string {
	if r.low == r.high {
		return r.low.String()
	}
	return r.low.String() + "-" + r.high.String()
}

func (r addrRange) contains(a netip.Addr) bool {
	return familyOf(r.low) == familyOf(a) && r.low.Compare(a) <= 0 && a.Compare(r.high) <= 0
}

// blockRanges are the addresses of a block without its exceptions. An exception
// that cannot be read takes the whole block away.
func blockRanges(block networkingv1.IPBlock) ([]addrRange, error) {
	all, err := parseCIDR(block.CIDR)
	if err != nil {
		return nil, fmt.Errorf("ipBlock: %w", err)
	}
	out := []addrRange{all}
	for i, text := range block.Except {
		except, err := parseCIDR(text)
		if err != nil {
			return nil, fmt.Errorf("ipBlock.except[%d]: %w", i, err)
		}
		var rest []addrRange
		for _, r := range out {
			rest = append(rest, r.without(except)...)
		}
		out = rest
	}
	return out, nil
}

// parseCIDR takes what the API server does, such as leading zeros.
func parseCIDR(text string) (addrRange, error) {
	_, network, err := netutils.ParseCIDRSloppy(text)
	if err != nil {
		return addrRange{}, fmt.Errorf("%q is no CIDR", text)
	}
	addr, ok := netip.AddrFromSlice(network.IP)
	ones, bits := network.Mask.Size()
	if !ok || bits != addr.BitLen() {
		return addrRange{}, fmt.Errorf("%q is no CIDR", text)
	}
	prefix := netip.PrefixFrom(addr, ones)
	if addr.Is4In6() {
		if ones < 96 {
			return addrRange{}, fmt.Errorf("%q covers more than IPv4 within IPv6", text)
		}
		prefix = netip.PrefixFrom(addr.Unmap(), ones-96)
	}
	return prefixRange(prefix), nil
}

func prefixRange(p netip.Prefix) addrRange {
	p = p.Masked()
	last := p.Addr().AsSlice()
	for bit := p.Bits(); bit < len(last)*8; bit++ {
		last[bit/8] |= 1 << (7 - bit%8)
	}
	high, _ := netip.AddrFromSlice(last)
	return addrRange{p.Addr(), high}
}

// without is what is left of a range.
func (r addrRange) without(x addrRange) []addrRange {
	if familyOf(r.low) != familyOf(x.low) || x.high.Less(r.low) || r.high.Less(x.low) {
		return []addrRange{r}
	}
	var out []addrRange
	if r.low.Less(x.low) {
		out = append(out, addrRange{r.low, x.low.Prev()})
	}
	if x.high.Less(r.high) {
		out = append(out, addrRange{x.high.Next(), r.high})
	}
	return out
}

// mergeRanges sorts ranges and joins what overlaps or touches, since the packet
// filter takes no overlap.
func mergeRanges(ranges []addrRange) []addrRange {
	slices.SortFunc(ranges, func(a, b addrRange) int { return a.low.Compare(b.low) })
	var out []addrRange
	for _, r := range ranges {
		n := len(out) - 1
		if n < 0 || familyOf(out[n].low) != familyOf(r.low) || out[n].high.Next().IsValid() && out[n].high.Next().Less(r.low) {
			out = append(out, r)
			continue
		}
		if out[n].high.Less(r.high) {
			out[n].high = r.high
		}
	}
	return out
}
