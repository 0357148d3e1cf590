//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// serverDoor lets nobody into a machine but to its server's port, and its own pods.
const serverDoor = `table inet door {
  chain input {
    type filter hook input priority -10; policy drop;
    iifname { "lo", "cni0" } accept
    ct state established accept
    tcp dport 6443 accept
  }
}
`

// testPeers has each of two servers reach the node of the other, of which only the
// server's port is open.
func testPeers(t *testing.T, one, two *node) {
	both := []*node{one, two}
	for _, n := range both {
		if _, err := n.Feed(serverDoor, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
	}
	doorIsClosed(t, one.Machine, two.Machine)
	doorIsClosed(t, two.Machine, one.Machine)
	ns := one.namespace(t, "far")
	one.apply(t, ns, webOn("one", "two"))
	for _, pod := range []string{"web-one", "web-two"} {
		one.awaitPod(t, ns, pod)
	}
	t.Run("each reaches the other's node", func(t *testing.T) {
		for _, n := range both {
			reach(t, n, ns, "one", "two")
		}
		forward(t, one, ns, "two")
	})
	t.Run("webhook and aggregated API", func(t *testing.T) { testPeer(t, one, two.Machine, ns) })
	t.Run("a server that is not reached", func(t *testing.T) {
		cut := fmt.Sprintf("table inet cut {\n chain output {\n type filter hook output priority 0;\n ip daddr %s tcp dport 6443 reject with tcp reset\n }\n}\n", two.Addr)
		if _, err := one.Feed(cut, "nft", "-f", "-"); err != nil {
			t.Fatal(err)
		}
		one.awaitPeers(t, "unhealthy: no tunnel to https://"+two.Addr.String()+":6443")
		if out := one.kubectl(t, "get", "--raw", "/readyz?verbose"); strings.Contains(out, "peers") || !strings.Contains(out, "unit-join ok") {
			t.Errorf("/readyz says\n%s", out)
		}
		two.server.Signal(t, "KILL")
		if err := two.server.Wait(t, time.Minute); err == nil {
			t.Error("the server ended before it was killed")
		}
		one.Must(t, "nft", "delete", "table", "inet", "cut")
	})
	t.Run("it comes back", func(t *testing.T) {
		t.Logf("Ready after %.1f s", two.serve(t))
		back := time.Now()
		reach(t, one, ns, "two")
		t.Logf("its node is reached after %.1f s", time.Since(back).Seconds())
		reach(t, two, ns, "one")
		one.awaitPeers(t, "ready: ")
	})
	t.Run("it leaves", func(t *testing.T) {
		two.stop(t)
		lab.Eventually(t, podPatience, "the other is alone", func() error {
			if said := one.said(t, "the cluster's other servers"); len(said) == 0 || len(said[len(said)-1].Servers) > 0 {
				return fmt.Errorf("the last lists are %v", said)
			}
			return nil
		})
		one.awaitPeers(t, "ready: ")
	})
	t.Run("the logs", func(t *testing.T) {
		for _, n := range both {
			for _, line := range append(n.said(t, "tunnel opened"), n.said(t, "no tunnel")...) {
				if strings.Contains(line.Server, n.Addr.String()) {
					t.Errorf("%s dials itself: %+v", n.Name, line)
				}
			}
			if lines := n.said(t, "no tunnel"); len(lines) > 5 {
				t.Errorf("%s says that there is no tunnel %d times: %v", n.Name, len(lines), lines)
			}
		}
	})
}

// awaitPeers waits until the unit's state and error, "unhealthy: no tunnel", begin
// with want.
func (n *node) awaitPeers(t *testing.T, want string) {
	t.Helper()
	lab.Eventually(t, podPatience, "unit peers of "+n.Name, func() error {
		text, runErr := n.Run("cleat", "status", "-o", "json") // it fails while a unit is unhealthy
		var status struct {
			Units []struct{ Unit, State, Error string }
		}
		if err := json.Unmarshal([]byte(text), &status); err != nil {
			return errors.Join(err, runErr)
		}
		for _, u := range status.Units {
			if u.Unit == "peers" && strings.HasPrefix(u.State+": "+u.Error, want) {
				return nil
			}
		}
		return fmt.Errorf("%+v, want %s", status.Units, want)
	})
}

// logLine is what a line of the log says of servers.
type logLine struct {
	Msg, Server, Error string
	Servers            []string
}

// said are the lines of all servers on the node so far that begin with message.
func (n *node) said(t *testing.T, message string) (lines []logLine) {
	t.Helper()
	for text := range strings.Lines(n.serverLog()) {
		var line logLine
		if json.Unmarshal([]byte(text), &line) == nil && strings.HasPrefix(line.Msg, message) {
			lines = append(lines, line)
		}
	}
	return lines
}
