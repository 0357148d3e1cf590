// Package nodenotes is what a node says of its machine in the annotations of its
// Node: the addresses that others know it by and the ports its own programs listen
// on. A node may write anything there, so reading drops what does not fit.
package nodenotes

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"
)

// The annotations.
const (
	ExternalIP   = "cleat.dev/external-ip"            // --node-external-ip, commas between
	Translated   = "cleat.dev/external-ip-translated" // "true": packets to them arrive with an internal address
	InternalDNS  = "cleat.dev/internal-dns"           // --node-internal-dns, commas between
	ExternalDNS  = "cleat.dev/external-dns"           // --node-external-dns, commas between
	Listens      = "cleat.dev/listens"                // 22/tcp=sshd,8472/udp
	maxAddresses = 8
	maxNames     = 8
	maxListens   = 512
	maxProgram   = 32      // bytes; the kernel's own bound is 15
	maxText      = 8 << 10 // bytes of one annotation
)

// Port is a port of one protocol.
type Port struct {
	Number   uint16
	Protocol corev1.Protocol
}

// String is 22/tcp.
func (p Port) String() string {
	return strconv.Itoa(int(p.Number)) + "/" + strings.ToLower(string(p.Protocol))
}

// Notes is all of it.
type Notes struct {
	ExternalIPs []netip.Addr
	Translated  bool
	InternalDNS []string
	ExternalDNS []string
	// Listens is which program has a port that can be reached from outside, "" if
	// that is not known: the kernel itself, for one.
	Listens map[Port]string
}

// Annotations returns every annotation, with nil for those that are not to be
// there.
func (n Notes) Annotations() map[string]*string {
	all := map[string]*string{ExternalIP: nil, Translated: nil, InternalDNS: nil, ExternalDNS: nil, Listens: nil}
	put := func(key string, values []string) {
		if len(values) > 0 {
			all[key] = new(strings.Join(values, ","))
		}
	}
	put(ExternalIP, texts(n.ExternalIPs))
	put(InternalDNS, n.InternalDNS)
	put(ExternalDNS, n.ExternalDNS)
	if n.Translated {
		put(Translated, []string{"true"})
	}
	ports := make([]Port, 0, len(n.Listens))
	for p := range n.Listens {
		ports = append(ports, p)
	}
	// The low ones first, as these are asked for if there are too many.
	slices.SortFunc(ports, func(a, b Port) int {
		if a.Number != b.Number {
			return int(a.Number) - int(b.Number)
		}
		return strings.Compare(string(a.Protocol), string(b.Protocol))
	})
	items := make([]string, 0, min(len(ports), maxListens))
	for _, p := range ports[:min(len(ports), maxListens)] {
		item := p.String()
		if program := word(n.Listens[p]); program != "" {
			item += "=" + program
		}
		items = append(items, item)
	}
	put(Listens, items)
	return all
}

// Read returns what a Node says. The error names the first thing that was dropped.
func Read(annotations map[string]string) (Notes, error) {
	var n Notes
	var first error
	drop := func(key string, err error) {
		if first == nil && err != nil {
			first = fmt.Errorf("annotation %s: %w", key, err)
		}
	}
	list := func(key string, most int) []string {
		text := annotations[key]
		if len(text) > maxText {
			drop(key, fmt.Errorf("%d bytes, more than %d", len(text), maxText))
			return nil
		}
		var items []string
		for item := range strings.SplitSeq(text, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if len(items) == most {
				drop(key, fmt.Errorf("more than %d values", most))
				break
			}
			items = append(items, item)
		}
		return items
	}
	for _, item := range list(ExternalIP, maxAddresses) {
		addr, err := ParseAddress(item)
		if err != nil {
			drop(ExternalIP, err)
			continue
		}
		n.ExternalIPs = append(n.ExternalIPs, addr)
	}
	n.Translated = annotations[Translated] == "true"
	names := func(key string) (out []string) {
		for _, item := range list(key, maxNames) {
			if msgs := validation.IsDNS1123Subdomain(item); len(msgs) > 0 {
				drop(key, fmt.Errorf("%.80q is no DNS name", item))
				continue
			}
			out = append(out, item)
		}
		return out
	}
	n.InternalDNS, n.ExternalDNS = names(InternalDNS), names(ExternalDNS)
	for _, item := range list(Listens, maxListens) {
		port, program, err := parseListen(item)
		if err != nil {
			drop(Listens, err)
			continue
		}
		if n.Listens == nil {
			n.Listens = make(map[Port]string)
		}
		n.Listens[port] = program
	}
	return n, first
}

func parseListen(item string) (Port, string, error) {
	text, program, _ := strings.Cut(item, "=")
	number, protocol, _ := strings.Cut(text, "/")
	n, err := strconv.ParseUint(number, 10, 16)
	if err != nil || n == 0 || protocol != "tcp" && protocol != "udp" {
		return Port{}, "", fmt.Errorf("%.80q, want port/tcp or port/udp", item)
	}
	return Port{uint16(n), corev1.Protocol(strings.ToUpper(protocol))}, word(program), nil
}

// word makes a program's name fit for a list and a message.
func word(s string) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', 'A' <= r && r <= 'Z', '0' <= r && r <= '9', strings.ContainsRune("-_.:/@", r):
			return r
		}
		return '_'
	}, s)
	return s[:min(len(s), maxProgram)]
}

// ParseAddress reads an address at which other machines may reach a node.
func ParseAddress(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%.80q is no IP address", text)
	}
	if a = a.Unmap(); a.Zone() != "" || !a.IsGlobalUnicast() {
		return netip.Addr{}, fmt.Errorf("%s cannot be reached from other machines", a)
	}
	return a, nil
}

func texts(addrs []netip.Addr) []string {
	out := make([]string, len(addrs))
	for i, a := range addrs {
		out[i] = a.String()
	}
	return out
}
