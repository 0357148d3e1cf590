package joinapi

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	maxName     = 253
	minPassword = 16
	maxPassword = 128
)

// NodeRequest is what the headers of a certificate request say.
type NodeRequest struct {
	Name     string
	Password string
	IPs      []netip.Addr // sorted, each once; empty but for the serving certificate
}

// ReadNodeRequest reads and checks the headers. Errors never quote the
// password.
func ReadNodeRequest(h http.Header) (NodeRequest, error) {
	var r NodeRequest
	var err error
	if r.Name, err = single(h, HeaderNodeName); err != nil {
		return NodeRequest{}, err
	}
	if err := CheckNodeName(r.Name); err != nil {
		return NodeRequest{}, fmt.Errorf("header %s: %w", HeaderNodeName, err)
	}
	if r.Password, err = single(h, HeaderNodePassword); err != nil {
		return NodeRequest{}, err
	}
	if err := CheckNodePassword(r.Password); err != nil {
		return NodeRequest{}, fmt.Errorf("header %s: %w", HeaderNodePassword, err)
	}
	if len(h.Values(HeaderNodeIP)) > 0 {
		text, err := single(h, HeaderNodeIP)
		if err != nil {
			return NodeRequest{}, err
		}
		if r.IPs, err = parseIPs(text); err != nil {
			return NodeRequest{}, fmt.Errorf("header %s: %w", HeaderNodeIP, err)
		}
	}
	return r, nil
}

// Set writes the request into headers.
func (r NodeRequest) Set(h http.Header) {
	h.Set(HeaderNodeName, r.Name)
	h.Set(HeaderNodePassword, r.Password)
	h.Del(HeaderNodeIP)
	if len(r.IPs) > 0 {
		all := make([]string, len(r.IPs))
		for i, ip := range r.IPs {
			all[i] = ip.String()
		}
		h.Set(HeaderNodeIP, strings.Join(all, ","))
	}
}

// CheckNodeName says why name cannot be a Node's, nil if it can: lower-case
// letters, digits, '-' and '.', each part beginning and ending with a letter
// or digit, at most 253 characters.
func CheckNodeName(name string) error {
	if name == "" || len(name) > maxName {
		return fmt.Errorf("node name of %d characters, want 1 to %d", len(name), maxName)
	}
	for part := range strings.SplitSeq(name, ".") {
		if part == "" || part[0] == '-' || part[len(part)-1] == '-' ||
			strings.Trim(part, "abcdefghijklmnopqrstuvwxyz0123456789-") != "" {
			return fmt.Errorf("node name %q: want lower-case letters, digits, '-' and '.', each part beginning and ending with a letter or digit", name)
		}
	}
	return nil
}

// CheckNodePassword says why p cannot be a node's password, nil if it can:
// 16 to 128 printable ASCII characters without spaces.
func CheckNodePassword(p string) error {
	if len(p) < minPassword || len(p) > maxPassword {
		return fmt.Errorf("node password of %d characters, want %d to %d", len(p), minPassword, maxPassword)
	}
	for i := range len(p) {
		if p[i] <= ' ' || p[i] >= 0x7f {
			return fmt.Errorf("node password: character %d is not printable ASCII", i+1)
		}
	}
	return nil
}

// CheckNodeIP says why ip cannot be a node's address, nil if it can.
func CheckNodeIP(ip netip.Addr) error {
	switch {
	case ip.Zone() != "" || ip.Is4In6():
		return fmt.Errorf("address %s: want a plain IPv4 or IPv6 address", ip)
	case !ip.IsValid() || ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip.IsLinkLocalUnicast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("address %s is no node's: want a unicast address that other machines can reach", ip)
	}
	return nil
}

func single(h http.Header, name string) (string, error) {
	switch v := h.Values(name); len(v) {
	case 0:
		return "", fmt.Errorf("header %s is missing", name)
	case 1:
		return v[0], nil
	default:
		return "", fmt.Errorf("header %s is given %d times", name, len(v))
	}
}

func parseIPs(text string) ([]netip.Addr, error) {
	if len(text) > MaxNodeIPs*64 {
		return nil, errors.New("too long")
	}
	var all []netip.Addr
	for s := range strings.SplitSeq(text, ",") {
		ip, err := netip.ParseAddr(strings.TrimSpace(s))
		if err != nil {
			return nil, err
		}
		if err := CheckNodeIP(ip); err != nil {
			return nil, err
		}
		all = append(all, ip)
	}
	slices.SortFunc(all, netip.Addr.Compare)
	all = slices.Compact(all)
	if len(all) > MaxNodeIPs {
		return nil, fmt.Errorf("%d addresses, want at most %d", len(all), MaxNodeIPs)
	}
	return all, nil
}
