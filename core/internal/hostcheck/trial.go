package hostcheck

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// try carries a trial out in a network and a mount namespace of a thread of its
// own. The thread ends with it, and with the thread all that was made.
func try(ctx context.Context, t Trial) (err error) {
	ctx, cancel := context.WithTimeout(ctx, trialTimeout)
	defer cancel()
	onOwnThread(func() {
		if err = enter(); err == nil {
			err = carryOut(ctx, t)
		}
	})
	return err
}

// onOwnThread runs f, whose steps are bounded, on a thread that ends with it.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			// The first thread cannot end, and /proc/self is about it: keep it
			// busy, so that another is found.
			onOwnThread(f)
			runtime.UnlockOSThread()
			return
		}
		f() // and the thread stays locked, so that nothing else gets to run on it
	}()
	<-done
}

// enter puts the thread into namespaces of its own.
func enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET | unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("new namespaces: %w", err)
	}
	// Else what is mounted here would be mounted on the machine too.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	return nil
}

func carryOut(ctx context.Context, t Trial) error {
	named := func(name string) netlink.LinkAttrs {
		a := netlink.NewLinkAttrs()
		a.Name = name
		return a
	}
	switch t {
	case TryBridge:
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: named("try0")})
	case TryVeth:
		return netlink.LinkAdd(&netlink.Veth{LinkAttrs: named("try0"), PeerName: "try1"})
	case TryVXLAN:
		return netlink.LinkAdd(&netlink.Vxlan{LinkAttrs: named("try0"), VxlanId: 1, Port: 8472})
	case TryOverlay:
		return tryOverlay()
	case TryNFTables:
		return run(ctx, nftables, "nft", "-f", "-")
	case TryPolicy:
		return run(ctx, policies, "nft", "-f", "-")
	case TryIPTables:
		return tryIPTables(ctx)
	case TryNetfilter:
		if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: named("try0")}); err != nil {
			return err
		}
		_, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables")
		return err
	}
	return nil
}

// tryOverlay mounts an overlay on a tmpfs that covers /tmp in this namespace.
func tryOverlay() error {
	const top = "/tmp"
	if err := unix.Mount("tmpfs", top, "tmpfs", 0, "size=1m"); err != nil {
		return fmt.Errorf("mount a tmpfs: %w", err)
	}
	for _, dir := range []string{"lower", "upper", "work", "merged"} {
		if err := os.Mkdir(filepath.Join(top, dir), 0o700); err != nil {
			return err
		}
	}
	options := "lowerdir=" + top + "/lower,upperdir=" + top + "/upper,workdir=" + top + "/work"
	if err := unix.Mount("overlay", top+"/merged", "overlay", 0, options); err != nil {
		return fmt.Errorf("mount an overlay: %w", err)
	}
	return nil
}

// nftables has one of everything that kube-proxy and the networks write.
const nftables = `table ip try {
	map services {
		type ipv4_addr . inet_proto . inet_service : verdict
	}
	set masq {
		type ipv4_addr
	}
	chain endpoint {
		meta l4proto tcp dnat to 192.0.2.1:80
	}
	chain service {
		numgen random mod 1 vmap { 0 : goto endpoint }
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		ip daddr . meta l4proto . th dport vmap @services
		fib daddr type local meta mark set meta mark or 0x4000
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr @masq masquerade fully-random
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		ct state invalid counter drop comment "try"
		ip daddr 192.0.2.2 reject
	}
}
`

// policies has one of everything that the rules of NetworkPolicies are.
const policies = `table inet try {
	set blocks {
		type ipv4_addr
		flags interval
		elements = { 192.0.2.0-192.0.2.9 }
	}
	set ports {
		type ipv6_addr . inet_proto . inet_service
	}
	map pods {
		type ipv4_addr : verdict
		elements = { 192.0.2.1 : goto group }
	}
	chain allowed {
		ip saddr @blocks tcp dport { 80, 8000-8080 } accept
		ip6 daddr . meta l4proto . th dport @ports accept
	}
	chain group {
		jump allowed
		counter drop
	}
	chain ingress {
		type filter hook forward priority -1; policy accept;
		ct direction reply ct state established accept
		icmpv6 type nd-neighbor-solicit accept
		ip daddr vmap @pods
	}
}
`

// tryIPTables adds, rule by rule, the matches and targets that kube-proxy and the
// networks use, and names those that fail.
func tryIPTables(ctx context.Context) error {
	var errs []error
	for _, rule := range []string{
		"-t filter -A FORWARD -m conntrack --ctstate INVALID -j DROP",
		"-t filter -A FORWARD -m comment --comment try -j ACCEPT",
		"-t filter -A FORWARD -j REJECT",
		"-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j MARK --or-mark 0x4000",
		"-t nat -A PREROUTING -m statistic --mode random --probability 0.5 -j ACCEPT",
		"-t nat -A PREROUTING -p tcp -m tcp --dport 80 -j DNAT --to-destination 192.0.2.1:80",
		"-t nat -A PREROUTING -p tcp -m multiport --dports 80,81 -j ACCEPT",
		"-t nat -A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE --random-fully",
	} {
		if err := run(ctx, "", "iptables", strings.Fields(rule)...); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", rule, err))
			if errors.Is(err, exec.ErrNotFound) {
				break
			}
		}
	}
	return errors.Join(errs...)
}

// run runs a program in the thread's namespaces. The first line of its complaint
// is the error.
func run(ctx context.Context, stdin, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	// A child of this thread is born into its namespaces.
	if err := cmd.Run(); err != nil {
		first, _, _ := strings.Cut(strings.TrimSpace(stderr.String()), "\n")
		if first == "" {
			return err
		}
		return fmt.Errorf("%s: %s", name, first)
	}
	return nil
}
