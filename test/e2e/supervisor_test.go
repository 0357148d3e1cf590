//go:build e2e

package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	slowConnections = 2000
	slowFor         = 20 * time.Second

	// What the attack may cost. On two cores that others used too, the worst was
	// 1.8 s, and memory grew by 144 to 258 MiB, garbage among it, of which the
	// collector allows as much as there is live memory. A server without limits
	// answers nobody for as long as the attack lasts.
	patienceUnderAttack = slowFor / 2
	memoryUnderAttack   = 512 << 20
)

// TestSupervisorUnderAttack has a machine hold two thousand connections that say
// next to nothing, and looks at what everybody else notices of it.
func TestSupervisorUnderAttack(t *testing.T) {
	l := newLab(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.Install(self, "slow-clients")
	n, attacker, honest := newNode(t, l, "n1"), l.Machine("attacker"), l.Machine("honest")
	t.Logf("Ready after %.1f s", n.serve(t))
	tok := strings.TrimSpace(n.Must(t, "cat", "/var/lib/cleat/server/node-token"))
	password := tok[strings.LastIndex(tok, ":")+1:]
	url := fmt.Sprintf("https://%s:6443", n.Addr)

	t.Run("sizes", func(t *testing.T) { testSizes(t, honest, url, password) })

	probe := func(i int, times map[string][]time.Duration) {
		t.Helper()
		for _, c := range []struct {
			what string
			do   func() (string, error)
			want string
		}{
			{"kubectl get nodes", func() (string, error) { return n.Run("kubectl", "get", "nodes") }, "n1"},
			{"cleat status", func() (string, error) { return n.Run("cleat", "status") }, "apiserver"},
			{"a new node's certificate", func() (string, error) {
				return certificate(t, honest, url, password, fmt.Sprintf("new-%d", i))
			}, "BEGIN CERTIFICATE"},
			{"one from the attacker's address", func() (string, error) {
				return certificate(t, attacker, url, password, fmt.Sprintf("neighbour-%d", i))
			}, "BEGIN CERTIFICATE"},
		} {
			begun := time.Now()
			out, err := c.do()
			times[c.what] = append(times[c.what], time.Since(begun))
			if err != nil || !strings.Contains(out, c.want) {
				t.Errorf("%s: %s, %v", c.what, out, err)
			}
		}
	}
	before := settled(t, n)
	quiet, times := map[string][]time.Duration{}, map[string][]time.Duration{}
	for i := range 3 {
		probe(i, quiet)
	}
	attack := attacker.Start(t, "attack", "env", slowVariable+"="+n.Addr.String()+":6443", "slow-clients")
	lab.Eventually(t, time.Minute, "the attack is under way", func() error {
		if log := attack.Log(); !strings.Contains(log, "under way") {
			return fmt.Errorf("%s", log)
		}
		return nil
	})
	peak := before
	for i := 3; ; i++ {
		if ended, err := attack.Ended(); ended {
			if err != nil {
				t.Fatalf("the attack: %v\n%s", err, attack.Log())
			}
			break
		}
		probe(i, times)
		u := usageOf(t, n)
		peak = usage{max(peak.files, u.files), max(peak.memory, u.memory), max(peak.goroutines, u.goroutines)}
	}
	t.Logf("the attack said:\n%s", attack.Log())
	for what, all := range times {
		slices.Sort(all)
		worst := all[len(all)-1]
		usual := slices.Max(quiet[what])
		t.Logf("%s: median %v, worst %v of %d, before at most %v", what, all[len(all)/2].Round(time.Millisecond),
			worst.Round(time.Millisecond), len(all), usual.Round(time.Millisecond))
		// A machine that does other work is slow without an attack too.
		if most := patienceUnderAttack + 3*usual; worst > most {
			t.Errorf("%s took %v, want at most %v", what, worst, most)
		}
	}
	t.Logf("before %v, at most %v", before, peak)
	if grown := peak.memory - before.memory; grown > memoryUnderAttack {
		t.Errorf("memory grew by %d MiB, want at most %d", grown>>20, memoryUnderAttack>>20)
	}
	if peak.files-before.files < 100 {
		t.Errorf("only %d more files: that was no attack", peak.files-before.files)
	}
	lab.Eventually(t, 2*time.Minute, "what was taken is given back", func() error {
		if u := usageOf(t, n); u.files > before.files+20 || u.goroutines > before.goroutines+100 {
			return fmt.Errorf("%v, before it was %v", u, before)
		}
		return nil
	})
	t.Logf("after %v", usageOf(t, n))
	for _, secret := range []string{password, nodeSecret} {
		if strings.Contains(n.server.Log(), secret) {
			t.Error("a secret is in the log")
		}
	}
}

// testSizes sends what is too much, and guesses.
func testSizes(t *testing.T, m *lab.Machine, url, password string) {
	const body = "/srv/too-much"
	m.Must(t, "sh", "-c", `mkdir -p /srv && head -c 20000 /dev/zero >`+body+` && seq -f 'X-Many: %.0f' 1500 >/srv/header`)
	for _, c := range []struct {
		want string
		args []string
	}{
		{"413", []string{"--data-binary", "@" + body, url + "/v1-cleat/client-kubelet.crt"}},
		{"413", []string{"-X", "GET", "--data-binary", "@" + body, url + "/ping"}},
		{"431", []string{"--http1.1", "-H", "@/srv/header", url + "/ping"}},
		{"431", []string{"--http1.1", "-H", "@/srv/header", url + "/api"}},
		{"401", []string{"--data-binary", "@" + body, "-u", "node:guess", url + "/v1-cleat/client-kubelet.crt"}},
	} {
		args := []string{"curl", "-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"}
		if c.want == "413" {
			args = append(args, "-u", "node:"+password)
		}
		if got, err := m.Run(append(args, c.args...)...); got != c.want {
			t.Errorf("%v: %s %v, want %s", c.args, got, err, c.want)
		}
	}
	guesses := m.Must(t, "curl", "-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}\n", "-u", "node:guess", url+"/v1-cleat/config?[1-300]")
	refused, slowed := strings.Count(guesses, "401"), strings.Count(guesses, "429")
	t.Logf("of 300 guesses %d were refused and %d not looked at", refused, slowed)
	if refused+slowed != 300 || slowed < 100 {
		t.Errorf("300 guesses: %d are 401, %d are 429", refused, slowed)
	}
}

const nodeSecret = "the-password-of-a-new-node"

// certificate joins far enough to be a member: it has a key signed.
func certificate(t *testing.T, m *lab.Machine, url, password, name string) (string, error) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})
	return m.Feed(string(csr), "curl", "-sk", "--max-time", "20", "-u", "node:"+password, "-H", "Cleat-Node-Name: "+name, "-H", "Cleat-Node-Password: "+nodeSecret,
		"--data-binary", "@-", url+"/v1-cleat/client-kubelet.crt")
}

// usage is what the server holds.
type usage struct {
	files      int
	memory     int // bytes
	goroutines int
}

func (u usage) String() string {
	return fmt.Sprintf("%d files, %d MiB, %d goroutines", u.files, u.memory>>20, u.goroutines)
}

func usageOf(t *testing.T, n *node) usage {
	t.Helper()
	out := n.Must(t, "sh", "-c", `p=$(cat /run/lab-cleat.pid); ls /proc/$p/fd | wc -l; awk '/^VmRSS/ {print $2 * 1024}' /proc/$p/status
kubectl get --raw /metrics | awk '/^go_goroutines / {print $2}'`)
	var numbers []int
	for _, f := range strings.Fields(out) {
		number, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		numbers = append(numbers, number)
	}
	if len(numbers) != 3 {
		t.Fatalf("%q", out)
	}
	return usage{numbers[0], numbers[1], numbers[2]}
}

// settled is the usage once a server has done with its boot.
func settled(t *testing.T, n *node) usage {
	t.Helper()
	var last usage
	same := 0
	lab.Eventually(t, 2*time.Minute, "the server is at rest", func() error {
		u := usageOf(t, n)
		if d := u.goroutines - last.goroutines; d > -20 && d < 20 {
			same++
		} else {
			same = 0
		}
		last = u
		if same < 5 {
			return fmt.Errorf("%v", u)
		}
		return nil
	})
	return last
}
