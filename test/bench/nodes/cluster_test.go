//go:build bench

package nodes

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/test/bench/processes"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// cluster is a server's machine and the lab around it.
type cluster struct {
	*lab.Lab
	server  *lab.Machine
	process *lab.Process
	client  kubernetes.Interface
}

// newCluster makes a lab and starts a server in it; agents are the names of machines
// to come, which get a copy each of the program.
func newCluster(t *testing.T, agents ...string) *cluster {
	t.Helper()
	l := lab.New(t)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l.Install(self, tool)
	for _, name := range append(agents, "n1") {
		l.Install("../../../bin/cleat", programOf(name))
	}
	l.Install("../../../build/upstream/hollow", "hollow")
	k := &cluster{Lab: l, server: l.Machine("n1")}
	began := time.Now()
	k.process = k.server.Start(t, "server", programOf("n1"), "server", "--disable", "coredns")
	lab.Eventually(t, patience, "the kubeconfig of the server", func() error {
		if ended, err := k.process.Ended(); ended {
			t.Fatalf("the server ended: %v", err)
		}
		k.client, err = clientOf(k.server)
		return err
	})
	k.awaitReady(t, began, k.process, "n1")
	return k
}

// programOf is the name of the machine's own copy of cleat.
func programOf(machine string) string { return "cleat-" + machine }

// clientOf is an administrator's client that runs in the test and reaches the server
// as a program of its machine would.
func clientOf(m *lab.Machine) (kubernetes.Interface, error) {
	text, err := os.ReadFile(m.Path("/etc/cleat/cleat.yaml"))
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(text)
	if err != nil {
		return nil, err
	}
	config.Dial = m.Dial
	config.QPS = -1
	config.Timeout = time.Minute
	return kubernetes.NewForConfig(config)
}

// awaitReady returns the seconds from began until the Node says that it is Ready,
// with a heartbeat of this start.
func (k *cluster) awaitReady(t *testing.T, began time.Time, p *lab.Process, name string) float64 {
	t.Helper()
	k.await(t, p, name+" is Ready", 20*time.Millisecond, func(ctx context.Context) error {
		node, err := k.client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		return ready(node, began)
	})
	return time.Since(began).Seconds()
}

// ready says why a Node is not Ready since a time, if it is not.
func ready(node *corev1.Node, since time.Time) error {
	for _, c := range node.Status.Conditions {
		// The API keeps whole seconds.
		if c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue && !c.LastHeartbeatTime.Time.Before(since.Truncate(time.Second)) {
			return nil
		}
	}
	return fmt.Errorf("node %s is not Ready: %+v", node.Name, node.Status.Conditions)
}

// await calls f every so often until it returns nil, and fails the test when p ends or
// time is up.
func (k *cluster) await(t *testing.T, p *lab.Process, what string, every time.Duration, f func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		err := f(ctx)
		if err == nil {
			return
		}
		if ended, why := p.Ended(); ended {
			t.Fatalf("%s: its program ended: %v", what, why)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("%s: %v", what, err)
		}
	}
}

// startAgent starts an agent with the server's token.
func (k *cluster) startAgent(t *testing.T, m *lab.Machine) *lab.Process {
	t.Helper()
	const tokenFile = "/etc/cleat/token"
	m.CopyFile(t, k.server.Path("/var/lib/cleat/server/token"), tokenFile, 0o600)
	return m.Start(t, "agent", programOf(m.Name), "agent", "--server", k.url(), "--token-file", tokenFile)
}

func (k *cluster) url() string { return fmt.Sprintf("https://%s:6443", k.server.Addr) }

// withoutInotify runs a command that cannot watch files. Each kubelet would, for plugins
// of which hollow nodes have none, and a kernel allows a user 128 such watches by default,
// all machines of a lab together.
const withoutInotify = `echo 0 >/proc/sys/user/max_inotify_instances && exec "$@"`

// startHollow starts count hollow nodes in one process.
func (k *cluster) startHollow(t *testing.T, m *lab.Machine, first, count int) *lab.Process {
	t.Helper()
	const tokenFile = "/etc/cleat/token"
	m.CopyFile(t, k.server.Path("/var/lib/cleat/server/token"), tokenFile, 0o600)
	return m.Start(t, fmt.Sprintf("hollow-%d", first),
		"unshare", "--user", "--map-root-user", "sh", "-c", withoutInotify, "sh",
		"hollow", "-server", k.url(), "-token-file", tokenFile,
		"-dir", "/var/lib/kubelet", "-address", m.Addr.String(),
		"-first", fmt.Sprint(first), "-count", fmt.Sprint(count), "-limit", lifeOfHollow.String())
}

// allReady says what is missing until n nodes are Ready and let pods in.
func (k *cluster) allReady(ctx context.Context, n int) error {
	// From the cache, so that asking costs little.
	nodes, err := k.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{ResourceVersion: "0"})
	if err != nil {
		return err
	}
	if len(nodes.Items) != n {
		return fmt.Errorf("%d nodes, want %d", len(nodes.Items), n)
	}
	for _, node := range nodes.Items {
		if err := ready(&node, time.Time{}); err != nil {
			return err
		}
		if len(node.Spec.Taints) > 0 {
			return fmt.Errorf("node %s has taints: %v", node.Name, node.Spec.Taints)
		}
	}
	return nil
}

func (k *cluster) counters(t *testing.T) counters {
	t.Helper()
	text, err := k.client.Discovery().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c, err := readCounters(string(text))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// beginWatch begins to measure the processes of a machine over a window.
func beginWatch(t *testing.T, m *lab.Machine, window time.Duration) *lab.Process {
	t.Helper()
	return m.Start(t, "watch", tool, window.String())
}

// endWatch returns what was measured.
func endWatch(t *testing.T, m *lab.Machine, p *lab.Process, window time.Duration) processes.Idle {
	t.Helper()
	if err := p.Wait(t, window+patience); err != nil {
		t.Fatalf("%s: %v: %s", m.Name, err, p.Log())
	}
	// Earlier windows are in the same log.
	printed := strings.Split(strings.TrimSpace(p.Log()), "\n")
	var idle processes.Idle
	if err := json.Unmarshal([]byte(printed[len(printed)-1]), &idle); err != nil {
		t.Fatalf("%s: %v: %s", m.Name, err, p.Log())
	}
	return idle
}

// deploy returns the seconds until a Deployment runs a pod on each of n hollow nodes.
func (k *cluster) deploy(t *testing.T, p *lab.Process, n int) float64 {
	t.Helper()
	labels := map[string]string{"app": "hollow"}
	spread := &metav1.LabelSelector{MatchLabels: labels}
	replicas := int32(n)
	deployments := k.client.AppsV1().Deployments(metav1.NamespaceDefault)
	began := time.Now()
	if _, err := deployments.Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "hollow"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas, Selector: spread,
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: labels},
				Spec: corev1.PodSpec{
					NodeSelector: map[string]string{"hollow": "true"},
					Containers:   []corev1.Container{{Name: "pause", Image: "cleat.dev/pause:bench", ImagePullPolicy: corev1.PullIfNotPresent}},
					TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
						MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule, LabelSelector: spread,
					}},
				},
			},
		},
	}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	k.await(t, p, fmt.Sprintf("%d pods on hollow nodes", n), 100*time.Millisecond, func(ctx context.Context) error {
		d, err := deployments.Get(ctx, "hollow", metav1.GetOptions{})
		if err == nil && d.Status.ReadyReplicas != replicas {
			err = fmt.Errorf("%d are ready", d.Status.ReadyReplicas)
		}
		return err
	})
	return time.Since(began).Seconds()
}

// profile leaves profiles of the server among the results.
func (k *cluster) profile(t *testing.T) {
	t.Helper()
	for name, query := range map[string]string{"heap": "heap?gc=1", "cpu": "profile?seconds=30", "goroutines": "goroutine"} {
		const inside = "/var/log/profile"
		k.server.Must(t, "curl", "-sSf", "--unix-socket", "/run/cleat/status.sock", "-o", inside, "http://cleat/debug/pprof/"+query)
		text, err := os.ReadFile(k.server.Path(inside))
		if err != nil {
			t.Fatal(err)
		}
		write(t, "nodes-"+name+".pprof", text)
	}
}
