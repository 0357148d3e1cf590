//go:build e2e

package e2e

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// A short churn is part of every run of the tests; `make churn` makes a long one.
const (
	churnJoins = 2
	churnKills = 6

	pauseOfKills = 1500 * time.Millisecond
)

const appManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  replicas: 6
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      terminationGracePeriodSeconds: 1
      tolerations:
      - {key: node.kubernetes.io/not-ready, operator: Exists, effect: NoExecute}
      - {key: node.kubernetes.io/unreachable, operator: Exists, effect: NoExecute}
      topologySpreadConstraints:
      - {maxSkew: 1, topologyKey: kubernetes.io/hostname, whenUnsatisfiable: DoNotSchedule, labelSelector: {matchLabels: {app: app}}}
      containers:
      - name: main
        image: ` + image + `
        command: [sh, -c, "mkdir -p /www && hostname > /www/index.html && exec httpd -f -p 8080 -h /www"]
        readinessProbe: {httpGet: {port: 8080, path: /}, periodSeconds: 1}
`

// TestChurn lets a machine join and leave again and again, then kills processes of
// three nodes at random. After each, every pod is back and nothing has grown.
func TestChurn(t *testing.T) {
	joins, kills := setting(t, "CLEAT_CHURN_JOINS", churnJoins), setting(t, "CLEAT_CHURN_KILLS", churnKills)
	l := newLab(t)
	n := newNode(t, l, "n1")
	agents := []*agent{newAgent(t, l, n, "n2"), newAgent(t, l, n, "n3")}
	guest := newAgent(t, l, n, "n4")
	n.serve(t)
	for _, a := range agents {
		a.start(t)
		a.awaitReady(t)
	}
	ns := n.namespace(t, "churn")
	n.apply(t, ns, appManifest)
	machines := []*lab.Machine{n.Machine, agents[0].Machine, agents[1].Machine}
	allBack(t, n, ns, machines)
	// Once, so that what a first guest leaves for good is in the first picture.
	joinAndLeave(t, guest, "TERM")
	before := pictures(t, machines)

	t.Run("joins and leaves", func(t *testing.T) {
		for i := range joins {
			joinAndLeave(t, guest, []string{"TERM", "KILL"}[i%2])
		}
		allBack(t, n, ns, machines)
		notGrown(t, machines, before)
	})
	t.Run("kills", func(t *testing.T) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		random := rand.New(rand.NewPCG(seed, 0))
		for range kills {
			switch victim := random.IntN(8); victim {
			case 0, 1:
				n.server.Signal(t, "KILL")
				_ = n.server.Wait(t, time.Minute) // it was killed
				n.start(t)
			case 2, 3, 4, 5:
				a := agents[victim%2]
				a.process.Signal(t, "KILL")
				_ = a.process.Wait(t, time.Minute)
				a.start(t)
			default:
				// A shim or the program of a pod.
				m := machines[random.IntN(len(machines))]
				name := []string{"[c]ontainerd-shim", "[h]ttpd"}[victim%2]
				_, _ = m.Run("sh", "-c", "kill -9 $(pgrep -f "+name+" | shuf -n 1)") // there may be none at this moment
			}
			time.Sleep(time.Duration(random.Int64N(int64(2 * pauseOfKills)))) // the time between two kills
		}
		allBack(t, n, ns, machines)
		notGrown(t, machines, before)
	})
}

func setting(t *testing.T, variable string, standard int) int {
	t.Helper()
	text := os.Getenv(variable)
	if text == "" {
		return standard
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 200 {
		t.Fatalf("%s=%s: want a number from 0 to 200", variable, text)
	}
	return n
}

// joinAndLeave makes a machine a node, ends it by a signal and deletes its Node.
func joinAndLeave(t *testing.T, a *agent, signal string) {
	t.Helper()
	a.start(t)
	a.awaitReady(t)
	a.process.Signal(t, signal)
	if err := a.process.Wait(t, time.Minute); (err == nil) != (signal == "TERM") {
		t.Errorf("cleat agent after SIG%s: %v", signal, err)
	}
	a.of.kubectl(t, "delete", "node", a.Name)
}

// allBack waits until every node and every pod of the app is Ready and each pod
// answers.
func allBack(t *testing.T, n *node, ns string, machines []*lab.Machine) {
	t.Helper()
	lab.Eventually(t, bootPatience, "every unit of every node is ready", func() error {
		for _, m := range machines {
			out, err := m.Run("cleat", "status")
			units, _, _ := strings.Cut(out, "\n\n")
			for line := range strings.Lines(units) {
				if f := strings.Fields(line); err == nil && f[0] != "UNIT" && f[1] != "ready" {
					err = fmt.Errorf("%s: %s", m.Name, line)
				}
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	lab.Eventually(t, bootPatience, "every pod is back", func() error {
		out, err := n.Run("kubectl", "get", "deployment", "app", "-n", ns, "-o", "jsonpath={.status.readyReplicas} {.status.replicas} {.status.updatedReplicas}")
		if err == nil && out != "6 6 6" {
			err = errors.New(out)
		}
		if err != nil {
			return err
		}
		ips, err := n.Run("kubectl", "get", "pods", "-n", ns, "-o", `jsonpath={range .items[*]}{.status.podIP}{" "}{end}`)
		if err != nil {
			return err
		}
		if got := len(strings.Fields(ips)); got != 6 {
			return fmt.Errorf("%d pods have an address", got)
		}
		for _, ip := range strings.Fields(ips) {
			if _, err := n.Run("curl", "-sS", "--max-time", "3", "-o", "/dev/null", "http://"+ip+":8080"); err != nil {
				return err
			}
		}
		return nil
	})
}

// picture is what could leak on a machine.
type picture struct{ files, goroutines, links, rules, memory int }

// pictures waits until each machine is quiet enough to be compared.
func pictures(t *testing.T, machines []*lab.Machine) map[string]picture {
	t.Helper()
	all := map[string]picture{}
	for _, m := range machines {
		all[m.Name] = takePicture(t, m)
	}
	return all
}

func takePicture(t *testing.T, m *lab.Machine) picture {
	t.Helper()
	number := func(script string) int {
		t.Helper()
		n, err := strconv.Atoi(strings.TrimSpace(m.Must(t, "sh", "-c", script)))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	const pid = `pid=$(pgrep -o -f '^cleat (server|agent)'); `
	return picture{
		files:      number(pid + `ls /proc/$pid/fd | wc -l`),
		goroutines: number(`curl -sS --unix-socket /run/cleat/status.sock 'http://cleat/debug/pprof/goroutine?debug=1' | sed -n '1s/.* //p'`),
		links:      number(`ip -o link | wc -l`),
		rules:      number(`nft list ruleset | wc -l`),
		memory:     number(pid + `sed -n 's/^Pss: *\([0-9]*\) kB/\1/p' /proc/$pid/smaps_rollup`),
	}
}

// notGrown compares the machines with an earlier picture, and waits for what ends
// a little later, such as idle connections.
func notGrown(t *testing.T, machines []*lab.Machine, before map[string]picture) {
	t.Helper()
	for _, m := range machines {
		lab.Eventually(t, bootPatience, m.Name+" is as it was", func() error {
			was, is := before[m.Name], takePicture(t, m)
			var errs []error
			for _, c := range []struct {
				what     string
				was, is  int
				room     int
				fraction float64
			}{
				{"open files", was.files, is.files, 20, 0.1},
				{"goroutines", was.goroutines, is.goroutines, 60, 0.1},
				{"links", was.links, is.links, 0, 0},
				{"lines of nft rules", was.rules, is.rules, 4, 0.02},
				{"memory in KiB", was.memory, is.memory, 64 << 10, 0.3},
			} {
				if most := c.was + c.room + int(float64(c.was)*c.fraction); c.is > most {
					errs = append(errs, fmt.Errorf("%d %s, were %d, at most %d wanted", c.is, c.what, c.was, most))
				}
			}
			return errors.Join(errs...)
		})
		t.Logf("%s: was %+v, is %+v", m.Name, before[m.Name], takePicture(t, m))
	}
}
