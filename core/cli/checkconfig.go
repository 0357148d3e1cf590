package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/hostcheck"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/token"
	"github.com/cleat-dev/cleat/hostabi"
)

func (a *app) checkConfigCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check-config",
		Short: "Tell what this machine lacks to run a server or an agent with these options",
		Long: `Try out what a server with these options needs of the kernel, the disks, the
ports and the programs of this machine, and say what to do about what is missing.
The exit code is 1 if something that is needed is missing, and 0 otherwise.

Links, mounts and rules are tried in namespaces that end with the command; nothing
is changed, except that the kernel may load modules. Run it as root.

It takes the options of a server, which ` + "`cleat server --help`" + ` explains, or
with --agent those of an agent, and looks at what an agent needs. Of what the
servers choose for an agent it expects the defaults; the only thing it asks
of a server is to be connected to.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, outputTable, outputJSON)
	options := addRoleOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, cfg, err := options.load(a.environ())
		if err != nil {
			return err
		}
		if err := joining(cfg).Validate(); err != nil {
			return hinted{err, r.hint}
		}
		rows := hostcheck.Check(cmd.Context(), a.machine(), needsOf(cfg))
		rows = append(rows, a.checkDetection(cmd, cfg))
		if *output == outputJSON {
			text, err := json.Marshal(rows)
			if err == nil {
				err = printJSON(cmd.OutOrStdout(), text)
			}
			if err != nil {
				return err
			}
		} else if err := printRows(cmd.OutOrStdout(), rows); err != nil {
			return err
		}
		return lacking(rows, r.of.Node())
	}
	return cmd
}

// joining is a configuration that lacks nothing to join with: which server an
// agent joins, and with what, says nothing of its machine.
func joining(cfg *config.Config) *config.Config {
	if !cfg.IsAgent() {
		return cfg
	}
	c := *cfg
	if c.Server == "" {
		c.Server = "https://server:6443"
	}
	if c.Token == "" && c.TokenFile == "" {
		c.Token = "token"
	}
	return &c
}

// checkDetection finds out what a node would find out when it starts: its name,
// addresses, cgroups and files.
func (a *app) checkDetection(cmd *cobra.Command, cfg *config.Config) hostcheck.Row {
	row := hostcheck.Row{Name: "configuration", Result: hostcheck.OK, For: "what a node finds out by itself"}
	err := a.detect(cmd.Context(), cfg)
	if err == nil {
		err = joining(cfg).Validate()
	}
	if err == nil && cfg.IsAgent() && cfg.Token != "" {
		_, err = token.Parse(cfg.Token)
	}
	if err != nil {
		row.Result, row.Found, row.Do = hostcheck.Missing, err.Error(), "as it says"
		return row
	}
	address := cfg.AdvertiseAddress
	if cfg.IsAgent() {
		address = strings.Join(cfg.NodeIP, ", ")
	}
	row.Found = fmt.Sprintf("node %s, address %s", cfg.NodeName, address)
	return row
}

// What the bundle's network needs unless told otherwise. This command asks no
// plugin, so that it works where the lock is what is wrong.
const (
	overlayPlugin  = "cni-flannel"
	overlayBackend = hostabi.FlannelVXLAN
	bridgePlugin   = "cni-bridge"
)

// How many inotify instances each role has when it is idle, counted in /proc.
const (
	serverInotify = 26
	agentInotify  = 11
)

// needsOf is what a server or an agent with this configuration needs of its
// machine.
func needsOf(cfg *config.Config) hostcheck.Needs {
	cni, backend, instances := cfg.CNI, cfg.FlannelBackend, serverInotify
	if cfg.IsAgent() { // which is told by the servers when it has joined
		cni, backend, instances = overlayPlugin, overlayBackend, agentInotify
	}
	n := hostcheck.Needs{
		DataDir: cfg.DataDir, KubeletDir: paths.KubeletDir, StatusSocket: paths.StatusSocket,
		Node: !cfg.DisableAgent, Proxy: !cfg.DisableAgent && !cfg.DisableKubeProxy,
		ProxyMode: componentargs.Value("proxy-mode", map[string]string{"proxy-mode": hostabi.ProxyModeNFTables}, cfg.KubeProxyArg),
		Policy:    !cfg.DisableAgent && !cfg.DisableNetworkPolicy && (cni == overlayPlugin || cni == bridgePlugin),
		VXLAN:     !cfg.DisableAgent && cni == overlayPlugin && backend == overlayBackend,
		Inotify:   instances,
	}
	add := func(network, host string, port int, what string) {
		n.Ports = append(n.Ports, hostcheck.Port{Network: network, Address: net.JoinHostPort(host, strconv.Itoa(port)), What: what})
	}
	const local = "127.0.0.1"
	if cfg.IsAgent() {
		n.Joins = &hostcheck.Joins{Server: serverAddress(cfg.Server), Token: cfg.Token != "" || cfg.TokenFile != ""}
		add("tcp", "", cfg.LBServerPort, "the node's way to the servers (--lb-server-port)") // on ::1 without IPv4
	} else {
		add("tcp", cfg.BindAddress, cfg.HTTPSListenPort, "API server and joining nodes (--https-listen-port)")
		if !cfg.DisableScheduler {
			add("tcp", local, 10259, "kube-scheduler")
		}
		add("tcp", local, 10257, "kube-controller-manager")
	}
	if n.Node {
		add("tcp", "", 10250, "kubelet: logs, exec, metrics")
		add("tcp", local, 10248, "kubelet: health")
	}
	if n.Proxy {
		add("tcp", local, 10249, "kube-proxy: metrics")
		add("tcp", local, 10256, "kube-proxy: health")
	}
	if n.VXLAN {
		add("udp", "", 8472, "flannel's overlay (--flannel-backend)")
	}
	return n
}

// serverAddress is the host and port of a server's URL that was validated, ""
// for none.
func serverAddress(server string) string {
	u, err := url.Parse(server)
	if err != nil {
		return ""
	}
	return u.Host
}

func printRows(w io.Writer, rows []hostcheck.Row) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CHECK\tRESULT\tFOUND\tFOR")
	for _, r := range rows {
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\n", display.Cell(r.Name), display.Cell(string(r.Result)), display.Cell(r.Found), display.Cell(r.For))
	}
	if err := t.Flush(); err != nil {
		return err
	}
	first := true
	for _, r := range rows {
		if r.Do == "" {
			continue
		}
		if first {
			if err := fprint(w, "\nWhat to do:\n"); err != nil {
				return err
			}
			first = false
		}
		if err := fprint(w, "  %s (%s): %s\n", display.Cell(r.Name), r.Result, display.Cell(r.Do)); err != nil {
			return err
		}
	}
	return nil
}

// lacking is an error that names what is missing for a server or an agent, nil if
// nothing is.
func lacking(rows []hostcheck.Row, node string) error {
	var names []string
	for _, r := range rows {
		if r.Result == hostcheck.Missing {
			names = append(names, r.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	return fmt.Errorf("%s would not work here: %s", node, strings.Join(names, ", "))
}
