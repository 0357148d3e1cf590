//go:build e2e

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const agentSecret = "for-agents-only"

// joinWith starts the agent with a token.
func (a *agent) joinWith(t *testing.T, server, token string, args ...string) (log func() string) {
	t.Helper()
	a.WriteFile(t, "/etc/cleat/token", token+"\n")
	before := 0
	if a.process != nil {
		before = len(a.process.Log())
	}
	a.started = time.Now()
	a.process = a.Start(t, "agent", append([]string{"cleat", "agent", "--server", server, "--token-file", "/etc/cleat/token"}, args...)...)
	return func() string { return a.process.Log()[before:] }
}

// refusedWith starts the agent with a token and wants it to end, saying so.
func (a *agent) refusedWith(t *testing.T, server, token, want string) {
	t.Helper()
	log := a.joinWith(t, server, token)
	if err := a.process.Wait(t, bootPatience); err == nil {
		t.Errorf("the agent ended well, want %q", want)
	}
	if said := log(); !strings.Contains(said, want) {
		t.Errorf("want %q of\n%s", want, said)
	} else if secret := token[strings.LastIndexAny(token, ":.")+1:]; strings.Contains(said, secret) {
		t.Error("the log holds the secret")
	}
}

func (a *agent) stop(t *testing.T) {
	t.Helper()
	a.process.Signal(t, "TERM")
	if err := a.process.Wait(t, time.Minute); err != nil {
		t.Errorf("cleat agent after SIGTERM: %v, want status 0", err)
	}
}

// says waits for a line of the log.
func says(t *testing.T, log func() string, want string) {
	t.Helper()
	lab.Eventually(t, bootPatience, want, func() error {
		if said := log(); !strings.Contains(said, want) {
			return fmt.Errorf("%s", said)
		}
		return nil
	})
}

// TestTokens joins machines with every kind of token, good and bad, and gives a
// node's name from one machine to another.
func TestTokens(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1", "--agent-token-file", "/etc/cleat/agent-token")
	two, three := newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3")
	n.WriteFile(t, "/etc/cleat/agent-token", agentSecret+"\n")
	t.Logf("Ready after %.1f s", n.serve(t))
	server := fmt.Sprintf("https://%s:6443", n.Addr)
	tokenOf := func(file string) string {
		t.Helper()
		return strings.TrimSpace(n.Must(t, "cat", "/var/lib/cleat/server/"+file))
	}
	old := tokenOf("token")
	if old != tokenOf("node-token") || !strings.HasSuffix(tokenOf("agent-token"), "::node:"+agentSecret) {
		t.Error("the files do not hold the tokens")
	}
	n.Must(t, "sh", "-c", "test $(stat -c %a /var/lib/cleat/server/agent-token) = 600")

	t.Run("refused", func(t *testing.T) {
		hash, password, _ := strings.Cut(old, "::server:")
		ended := n.Must(t, "cleat", "token", "create", "--ttl", "1s")
		three.refusedWith(t, server, hash+"::server:"+password+"0", "refuses the token")
		three.refusedWith(t, server, agentSecret+"x", "refuses the token")
		lab.Eventually(t, time.Minute, "the token ended", func() error {
			if list := n.Must(t, "cleat", "token", "list"); strings.Contains(list, "1s") {
				return fmt.Errorf("%s", list)
			}
			return nil
		})
		three.refusedWith(t, server, strings.TrimSpace(ended), "`cleat token create` makes one")
		deleted := strings.TrimSpace(n.Must(t, "cleat", "token", "create"))
		n.Must(t, "cleat", "token", "delete", deleted)
		three.refusedWith(t, server, deleted, "`cleat token create` makes one")
		three.refusedWith(t, server, "K10"+strings.Repeat("0", 64)+"::server:"+password, "another cluster's")
	})
	t.Run("nothing is sent to another cluster", func(t *testing.T) {
		client := l.Machine("client")
		var mu sync.Mutex
		var asked []string
		other := httptest.NewUnstartedServer(nil)
		other.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			asked = append(asked, fmt.Sprint(r.URL.Path, " ", r.Header["Authorization"], r.Header["Cleat-Node-Password"]))
			ca, err := os.ReadFile(n.Path("/var/lib/cleat/server/tls/client-ca.crt")) // an authority, but not the one
			if err != nil {
				t.Error(err)
			}
			_, _ = w.Write(ca)
		})
		_ = other.Listener.Close()
		other.Listener = client.Listen(t, 6443)
		other.StartTLS()
		t.Cleanup(other.Close)
		three.refusedWith(t, fmt.Sprintf("https://%s:6443", client.Addr), old, "another cluster's")
		mu.Lock()
		defer mu.Unlock()
		if !slices.Contains(asked, "/cacerts [] []") {
			t.Errorf("it was asked for %v, want its authority among it", asked)
		}
		for _, request := range asked {
			// The load balancer asks whether it is well.
			if request != "/cacerts [] []" && request != "/v1-cleat/readyz [] []" {
				t.Errorf("it was asked for %s", request)
			}
		}
	})
	t.Run("short token of agents", func(t *testing.T) {
		log := two.joinWith(t, server, agentSecret)
		t.Logf("n2 is Ready after %.1f s", two.awaitReady(t))
		says(t, log, "the token has no CA hash")
	})
	t.Run("the agents' token rotates nothing", func(t *testing.T) {
		n.WriteFile(t, "/etc/cleat/wrong", tokenOf("agent-token"))
		if out, err := n.Run("cleat", "token", "rotate", "--token-file", "/etc/cleat/wrong"); err == nil || !strings.Contains(err.Error(), "missing or wrong") {
			t.Errorf("%s, %v", out, err)
		}
	})
	t.Run("a taken name is waited for", func(t *testing.T) {
		bootstrap := strings.TrimSpace(n.Must(t, "cleat", "token", "create"))
		log := three.joinWith(t, server, bootstrap, "--node-name", "n2")
		says(t, log, "node name is taken")
		two.stop(t)
		n.kubectl(t, "delete", "node", "n2")
		freed := time.Now()
		lab.Eventually(t, bootPatience, "n3 is Ready as n2", func() error {
			address, err := n.Run("kubectl", "get", "node", "n2", "-o", `jsonpath={.status.addresses[?(@.type=="InternalIP")].address} {.status.conditions[?(@.type=="Ready")].status}`)
			if err == nil && address != three.Addr.String()+" True" {
				err = fmt.Errorf("%s", address)
			}
			return err
		})
		t.Logf("n3 is Ready as n2 %.1f s after the Node was deleted", time.Since(freed).Seconds())
		if strings.Contains(log(), "CA hash") {
			t.Error("a full token is warned of")
		}
		n.Must(t, "cleat", "token", "delete", bootstrap) // it is a member without
		// The machine that had the name is now the one which waits.
		log = two.joinWith(t, server, agentSecret)
		says(t, log, "node name is taken")
		two.stop(t)
	})
	t.Run("guide", func(t *testing.T) {
		g := readGuide(t, "guides/tokens.md")
		if len(g.does) < 5 {
			t.Fatalf("the guide has %d commands", len(g.does))
		}
		g.follow(t, n)
	})
	t.Run("after the rotation", func(t *testing.T) {
		next := tokenOf("token")
		if next == old || next != strings.TrimSpace(n.Must(t, "cat", "/root/new-token")) {
			t.Fatal("the token is not the new one")
		}
		four := newAgent(t, l, n, "n4")
		four.refusedWith(t, server, old, "refuses the token")
		three.stop(t)
		// A member goes on, whatever became of the token it came with.
		log := three.joinWith(t, server, old, "--node-name", "n2")
		says(t, log, `"unit":"kubeproxy","state":"ready"`)
		four.joinWith(t, server, next)
		t.Logf("n4 is Ready after %.1f s", four.awaitReady(t))
		n.stop(t)
		t.Logf("Ready again after %.1f s", n.serve(t))
		if tokenOf("token") != next {
			t.Error("a start changed the token")
		}
	})
	for _, secret := range []string{agentSecret, old[strings.LastIndex(old, ":")+1:]} {
		if strings.Contains(n.server.Log(), secret) {
			t.Error("a secret is in the server's log")
		}
	}
}
