package network

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// Bounds and shapes of what a plugin may ask for.
const (
	maxConflistBytes = 64 << 10
	maxSysctls       = 64
	// Only the network's own settings are a plugin's business.
	sysctlName  = `^net(\.[a-zA-Z0-9_-]+){2,}$`
	sysctlValue = `^[0-9A-Za-z_. \t-]{1,128}$`
	linkName    = `^[a-zA-Z0-9._-]{1,15}$`
	fileName    = `^[a-zA-Z0-9][a-zA-Z0-9._-]{0,100}\.conflist$`
)

// checkPlan refuses a plan the core cannot or must not carry out, naming the
// field. protected is the link of the default route, if there is one.
func checkPlan(p hostabi.CNIPlan, protected string) error {
	switch p.Driver {
	case hostabi.CNIDriverFlannel:
		if err := checkFlannel(p.Flannel); err != nil {
			return err
		}
	case hostabi.CNIDriverBridge:
		if err := checkBridge(p.Bridge); err != nil {
			return err
		}
	case hostabi.CNIDriverNone:
	default:
		return fmt.Errorf("driver: %q is none of %s, %s, %s", p.Driver, hostabi.CNIDriverFlannel, hostabi.CNIDriverBridge, hostabi.CNIDriverNone)
	}
	if err := checkPolicy(p.NetworkPolicy); err != nil {
		return err
	}
	if err := checkConflist(p.ConflistName, p.Conflist); err != nil {
		return err
	}
	if len(p.Sysctls) > maxSysctls {
		return fmt.Errorf("sysctls: %d of them, at most %d are set", len(p.Sysctls), maxSysctls)
	}
	for _, name := range slices.Sorted(maps.Keys(p.Sysctls)) {
		if !matches(sysctlName, name) {
			return fmt.Errorf("sysctls: %q is not a dotted name below net", name)
		}
		if !matches(sysctlValue, p.Sysctls[name]) {
			return fmt.Errorf("sysctls: %s: value %q", name, p.Sysctls[name])
		}
	}
	for _, name := range p.RemoveLinks {
		if !validLink(name) {
			return fmt.Errorf("remove_links: %q is no link name", name)
		}
		if name == protected {
			return fmt.Errorf("remove_links: %q is the link of this machine's default route", name)
		}
	}
	return nil
}

func checkConflist(name string, content json.RawMessage) error {
	if len(content) == 0 {
		if name != "" {
			return fmt.Errorf("conflist_name: %q without conflist", name)
		}
		return nil
	}
	if !matches(fileName, name) || filepath.Base(name) != name {
		return fmt.Errorf("conflist_name: %q is no file name that ends in .conflist", name)
	}
	if len(content) > maxConflistBytes {
		return fmt.Errorf("conflist: %d bytes, at most %d are written", len(content), maxConflistBytes)
	}
	var list struct {
		Name       string `json:"name"`
		CNIVersion string `json:"cniVersion"`
		Plugins    []struct {
			Type string `json:"type"`
		} `json:"plugins"`
	}
	if err := json.Unmarshal(content, &list); err != nil {
		return fmt.Errorf("conflist: %w", err)
	}
	if list.Name == "" || list.CNIVersion == "" || len(list.Plugins) == 0 {
		return fmt.Errorf("conflist: name, cniVersion and plugins must be set")
	}
	for i, plugin := range list.Plugins {
		// The runtime would look it up in its directories by this name.
		if plugin.Type == "" || strings.ContainsAny(plugin.Type, "/\\") {
			return fmt.Errorf("conflist: plugins[%d].type: %q is no program name", i, plugin.Type)
		}
	}
	return nil
}

func checkFlannel(f *hostabi.FlannelPlan) error {
	if f == nil {
		return fmt.Errorf("flannel: missing, driver is %s", hostabi.CNIDriverFlannel)
	}
	if f.Backend != hostabi.FlannelVXLAN && f.Backend != hostabi.FlannelHostGW {
		return fmt.Errorf("flannel.backend: %q is none of %s, %s", f.Backend, hostabi.FlannelVXLAN, hostabi.FlannelHostGW)
	}
	if err := checkNetworks("flannel", f.Network, f.NetworkV6); err != nil {
		return err
	}
	if f.Interface != "" && !validLink(f.Interface) {
		return fmt.Errorf("flannel.interface: %q is no link name", f.Interface)
	}
	if f.VNI < 0 || f.VNI > 1<<24-1 {
		return fmt.Errorf("flannel.vni: %d is not between 0 and %d", f.VNI, 1<<24-1)
	}
	if f.Port < 0 || f.Port > 65535 {
		return fmt.Errorf("flannel.port: %d is no port", f.Port)
	}
	return nil
}

func checkBridge(b *hostabi.BridgePlan) error {
	if b == nil {
		return fmt.Errorf("bridge: missing, driver is %s", hostabi.CNIDriverBridge)
	}
	if !validLink(b.Name) {
		return fmt.Errorf("bridge.name: %q is no link name", b.Name)
	}
	if _, err := netip.ParsePrefix(b.Network); err == nil && b.NetworkV6 == "" {
		return nil // of either family, as before there was network_v6
	}
	return checkNetworks("bridge", b.Network, b.NetworkV6)
}

// checkNetworks wants the network of one family or one of each.
func checkNetworks(field, v4, v6 string) error {
	if prefix, err := netip.ParsePrefix(v4); (v4 != "" || v6 == "") && (err != nil || !prefix.Addr().Is4()) {
		return fmt.Errorf("%s.network: %q is no IPv4 CIDR", field, v4)
	}
	if prefix, err := netip.ParsePrefix(v6); v6 != "" && (err != nil || !prefix.Addr().Is6() || prefix.Addr().Is4In6()) {
		return fmt.Errorf("%s.network_v6: %q is no IPv6 CIDR", field, v6)
	}
	return nil
}

func validLink(name string) bool { return matches(linkName, name) && name != "." && name != ".." }

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }
