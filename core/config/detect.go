package config

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// Detect fills Host from the machine, and the options whose default is found
// rather than fixed: node name, node addresses, advertise address, cluster DNS,
// resolv.conf, plugin directory and the token from its file. It writes nothing
// to the machine. The error joins everything that could not be found out and
// names the flag that would say it instead.
func (c *Config) Detect(ctx context.Context) error {
	return c.detect(ctx, thisMachine())
}

// machine is the part of the operating system that Detect looks at.
type machine struct {
	root     string // prefix of every path read; "" but in tests
	hostname func() (string, error)
	network  func() (network, error)
	fsMagic  func(path string) (int64, error)
	writable func(path string) bool
	program  func(name string) bool
}

func thisMachine() machine {
	return machine{
		hostname: os.Hostname,
		network:  netlinkNetwork,
		fsMagic: func(path string) (int64, error) {
			var st unix.Statfs_t
			err := unix.Statfs(path, &st)
			return int64(st.Type), err
		},
		writable: func(path string) bool { return unix.Access(path, unix.W_OK) == nil },
		program: func(name string) bool {
			_, err := exec.LookPath(name)
			return err == nil
		},
	}
}

// read returns a small file of the machine.
func (m machine) read(path string) (string, error) {
	data, err := readBounded(m.root+path, 1<<20)
	return string(data), err
}

func (c *Config) detect(ctx context.Context, m machine) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	var errs []error
	step := func(err error) {
		if err != nil {
			errs = append(errs, err)
		}
	}
	step(c.detectName(m))
	step(c.detectNodeID(m))
	step(c.detectAddresses(m))
	c.detectClusterDNS()
	step(c.detectPrivileges(m))
	if !c.DisableAgent {
		step(c.detectCgroups(m))
		c.detectResolvConf(m)
	}
	if c.PluginsDir == "" && !c.IsAgent() {
		c.PluginsDir = paths.Data(c.DataDir).Plugins()
		c.found("plugins-dir")
	}
	step(c.readToken("token", &c.Token, c.TokenFile))
	step(c.readToken("agent-token", &c.AgentToken, c.AgentTokenFile))
	return errors.Join(errs...)
}

// found marks an option as filled by Detect.
func (c *Config) found(name string) {
	if c.origins == nil {
		c.origins = make(map[string]string)
	}
	c.origins[name] = originDetected
}

func (c *Config) detectName(m machine) error {
	name, err := m.hostname()
	if err != nil {
		if c.NodeName != "" {
			return nil
		}
		return fmt.Errorf("host name: %w; give the node a name with --node-name", err)
	}
	c.Host.Hostname = name
	if c.NodeName == "" {
		c.NodeName = strings.ToLower(name)
		c.found("node-name")
	}
	return nil
}

// nodeIDBytes make an ID of eight hexadecimal digits, as in k3s.
const nodeIDBytes = 4

// detectNodeID appends the node's ID to its name. A new one is made up here and
// written when the node starts, so without a node there is none.
func (c *Config) detectNodeID(m machine) error {
	if !c.WithNodeID || c.DisableAgent || c.NodeName == "" {
		return nil
	}
	text, err := m.read(paths.NodeID)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		made := make([]byte, nodeIDBytes)
		rand.Read(made) // never fails
		c.Host.NodeID = hex.EncodeToString(made)
	case err != nil:
		return fmt.Errorf("--with-node-id: %w", err)
	default:
		id := strings.TrimSpace(text)
		if read, err := hex.DecodeString(id); err != nil || len(read) != nodeIDBytes || strings.ToLower(id) != id {
			return fmt.Errorf("--with-node-id: %s does not hold %d small hexadecimal digits; correct it, or remove it to have another made", paths.NodeID, 2*nodeIDBytes)
		}
		c.Host.NodeID = id
	}
	c.NodeName += "-" + c.Host.NodeID
	return nil
}

// detectAddresses fills Host.DefaultInterface and Host.Addresses, and from them
// node-ip, advertise-address and, for IPv6, bind-address.
func (c *Config) detectAddresses(m machine) error {
	net, err := m.network()
	if err != nil {
		return fmt.Errorf("network interfaces: %w", err)
	}
	// On a restart the bridges of the last run still carry addresses of the
	// cluster itself. They are no way to reach this machine.
	own, taken := c.splitClusterAddresses(net.addresses)
	c.Host.DefaultInterface = net.defaultInterface
	c.Host.Addresses = own

	if len(c.NodeIP) == 0 {
		if err := c.chooseNodeIP(taken); err != nil {
			return err
		}
	}
	first, err := netip.ParseAddr(c.NodeIP[0])
	if err != nil {
		return nil // Validate says so, with the way out
	}
	if c.IsAgent() {
		return nil
	}
	if c.AdvertiseAddress == "" {
		c.AdvertiseAddress = first.String()
		c.found("advertise-address")
	}
	if first.Is6() && c.Origin("bind-address") == originDefault {
		c.BindAddress = netip.IPv6Unspecified().String()
		c.found("bind-address")
	}
	return nil
}

// chooseNodeIP takes the first address of each family the cluster has. An agent
// does not know these yet, and takes what there is.
func (c *Config) chooseNodeIP(taken []netip.Addr) error {
	var chosen []string
	if c.IsAgent() {
		for _, six := range []bool{false, true} {
			if addr, ok := firstOf(c.Host.Addresses, six); ok {
				chosen = append(chosen, addr.String())
			}
		}
		if len(chosen) == 0 {
			return errors.New("no address for this node: no interface that is up has a global address; configure an address, or give one with --node-ip")
		}
		c.NodeIP = chosen
		c.found("node-ip")
		return nil
	}
	for _, six := range c.families() {
		addr, ok := firstOf(c.Host.Addresses, six)
		if !ok {
			return fmt.Errorf("no address for this node: %s; configure an address, or give one with --node-ip",
				c.whyNoAddress(six, taken))
		}
		chosen = append(chosen, addr.String())
	}
	c.NodeIP = chosen
	c.found("node-ip")
	return nil
}

func (c *Config) whyNoAddress(six bool, taken []netip.Addr) string {
	if addr, ok := firstOf(taken, six); ok {
		return fmt.Sprintf("the machine's %s lies in --cluster-cidr or --service-cidr, as the pods' own links do, and no other interface that is up "+
			"has a global address; bring the machine's network up, or choose ranges that do not overlap it", addr)
	}
	family := "IPv4"
	if six {
		family = "IPv6"
	}
	return fmt.Sprintf("no interface that is up has a global %s address, which --cluster-cidr %s asks for",
		family, strings.Join(c.ClusterCIDR, ","))
}

// families is the address family of each cluster CIDR, IPv4 if none parses.
func (c *Config) families() (six []bool) {
	for _, s := range c.ClusterCIDR {
		if p, err := netip.ParsePrefix(s); err == nil {
			six = append(six, p.Addr().Is6())
		}
	}
	if len(six) == 0 {
		return []bool{false}
	}
	return six
}

func (c *Config) splitClusterAddresses(all []netip.Addr) (own, taken []netip.Addr) {
	for _, addr := range all {
		inside := false
		for _, cidrs := range [][]string{c.ClusterCIDR, c.ServiceCIDR} {
			for _, s := range cidrs {
				p, err := netip.ParsePrefix(s)
				inside = inside || err == nil && p.Contains(addr)
			}
		}
		if inside {
			taken = append(taken, addr)
		} else {
			own = append(own, addr)
		}
	}
	return own, taken
}

func firstOf(addrs []netip.Addr, six bool) (netip.Addr, bool) {
	for _, a := range addrs {
		if a.Is6() == six {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// dnsIndex is the place of the DNS service in a service CIDR, by custom.
const dnsIndex = 10

func (c *Config) detectClusterDNS() {
	if len(c.ClusterDNS) > 0 {
		return
	}
	for _, s := range c.ServiceCIDR {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			continue // Validate says so
		}
		addr := p.Masked().Addr()
		for range dnsIndex {
			addr = addr.Next()
		}
		if p.Contains(addr) {
			c.ClusterDNS = append(c.ClusterDNS, addr.String())
			c.found("cluster-dns")
		}
	}
}

// maxToken is far above any token and far below a file named by mistake.
const maxToken = 4 << 10

// readToken reads the file that the option called name has beside it.
func (c *Config) readToken(name string, into *string, file string) error {
	if file == "" || *into != "" {
		return nil // Validate refuses both
	}
	wrong := func(problem string) error {
		return &OptionError{Name: name + "-file", Value: file, Origin: c.Origin(name + "-file"), Problem: problem}
	}
	data, err := readBounded(file, maxToken)
	if err != nil {
		return wrong(err.Error())
	}
	token := strings.TrimSpace(string(data))
	if token == "" {
		return wrong("is empty; write the token into it, or leave the flag out")
	}
	*into = token
	c.found(name)
	return nil
}
