// Package hostcheck tells what a machine lacks to run a server or an agent,
// before it hurts. Features of the kernel are tried out in namespaces of one
// thread, which die with it: nothing of the machine is changed, except that the
// kernel may load modules, as it would when cleat starts.
package hostcheck

import (
	"context"
	"time"

	"golang.org/x/sys/unix"
)

// Result says how a check came out.
type Result string

// The results of a check.
const (
	OK      Result = "ok"
	Warning Result = "warning" // works, with a limit
	Missing Result = "missing" // cleat or its pods would not run
)

// Row is one check.
type Row struct {
	Name   string `json:"name"`
	Result Result `json:"result"`
	Found  string `json:"found"`        // what was seen
	For    string `json:"for"`          // what it is needed for
	Do     string `json:"do,omitempty"` // the way out; empty when ok
}

// Needs is what a server or an agent would be started with.
type Needs struct {
	DataDir      string
	KubeletDir   string
	Node         bool // it runs pods
	Proxy        bool // it writes service rules
	ProxyMode    string
	Policy       bool // it enforces NetworkPolicies
	VXLAN        bool // its network has an overlay
	Inotify      int  // instances it takes
	StatusSocket string
	Ports        []Port
	Joins        *Joins // nil for a server
}

// Port is where something would listen.
type Port struct {
	Network string // tcp or udp
	Address string // host:port; an empty host is every address
	What    string // who listens, and the option that moves it
}

// Machine is what the checks look at. This returns the real one.
type Machine struct {
	Now      func() time.Time
	Root     func() bool                         // the user may do everything
	ReadFile func(path string) (string, error)   // at most 1 MiB
	ReadDir  func(path string) ([]string, error) // names
	Stat     func(path string) error
	Writable func(path string) bool
	Readlink func(path string) (string, error)
	Statfs   func(path string) (unix.Statfs_t, error)
	Program  func(name string) error // nil if it is in PATH
	Resolve  func(ctx context.Context, host string) error
	Hostname func() (string, error)
	Release  func() string                           // of the kernel
	Listen   func(ctx context.Context, p Port) error // opens the port and closes it
	Connect  func(ctx context.Context, address string) error
	Answers  func(ctx context.Context, socket string) bool // somebody listens on the unix socket
	OpenMax  func() (hard uint64, err error)               // RLIMIT_NOFILE
	Synced   func() (bool, error)                          // the clock follows another
	Try      func(ctx context.Context, t Trial) error      // nil if the kernel can
}

// Trial is something to do in fresh namespaces.
type Trial string

// The trials.
const (
	TryNamespaces Trial = "namespaces" // make them, and nothing in them
	TryBridge     Trial = "bridge"
	TryVeth       Trial = "veth"
	TryVXLAN      Trial = "vxlan"
	TryOverlay    Trial = "overlay"
	TryNFTables   Trial = "nftables" // a table with all that service rules use
	TryPolicy     Trial = "policy"   // a table with all that rules of NetworkPolicies use
	TryIPTables   Trial = "iptables" // likewise
	TryNetfilter  Trial = "br_netfilter"
)

// Check runs every check that the needs call for. It takes some seconds at most.
func Check(ctx context.Context, m Machine, n Needs) []Row {
	c := &checker{m: m, n: n, running: m.Answers(ctx, n.StatusSocket)}
	c.user()
	c.kernel(ctx)
	if n.Node {
		c.cgroups()
		c.node()
		c.network(ctx)
	}
	c.files()
	c.ports(ctx)
	c.joins(ctx)
	c.surroundings(ctx)
	c.others()
	return c.rows
}

type checker struct {
	m       Machine
	n       Needs
	running bool // cleat runs here now
	rows    []Row
}

func (c *checker) add(name string, result Result, found, purpose, do string) {
	if result == OK {
		do = ""
	}
	c.rows = append(c.rows, Row{name, result, found, purpose, do})
}

// either adds a row that is ok, or bad with the way out.
func (c *checker) either(ok bool, bad Result, name, found, purpose, do string) {
	if ok {
		bad = OK
	}
	c.add(name, bad, found, purpose, do)
}

func (c *checker) exists(path string) bool { return c.m.Stat(path) == nil }

// there says how a path was found.
func (c *checker) there(path string) string {
	if c.exists(path) {
		return path
	}
	return "no " + path
}
