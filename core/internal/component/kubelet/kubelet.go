// Package kubelet is the unit of the kubelet, which runs the node's pods.
package kubelet

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/componentargs"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	healthzAddress = "127.0.0.1:10248"
	healthzURL     = "http://" + healthzAddress + "/healthz"
)

// Component is the unit. Make it with New.
type Component struct {
	cfg        *config.Config
	data       paths.Data
	kubeconfig string
	nodeID     string // file of --with-node-id
	run        func(ctx context.Context) error
	probe      *healthprobe.Prober
}

// New returns the unit; run runs the kubelet, with Configuration and Args,
// until its context is done. kubeconfig is the node's own.
func New(cfg *config.Config, data paths.Data, run func(ctx context.Context) error) *Component {
	return &Component{cfg: cfg, data: data, kubeconfig: data.Kubeconfig("kubelet"), nodeID: paths.NodeID, run: run, probe: healthprobe.New(healthzURL, nil)}
}

// publicResolvers are what pods get where the machine's own resolver is a
// loopback address, which means another machine inside a pod. k3s has the same.
const publicResolvers = "nameserver 8.8.8.8\nnameserver 2001:4860:4860::8888\n"

// Prepare makes the directory of static pods, keeps the ID that is part of the
// node's name, and writes the pods' resolv.conf where the machine's own cannot
// serve them.
func (c *Component) Prepare(context.Context) error {
	if err := os.MkdirAll(StaticPods(c.data), 0o700); err != nil {
		return fmt.Errorf("static pods: %w", err)
	}
	if id := c.cfg.Host.NodeID; id != "" {
		if err := os.MkdirAll(filepath.Dir(c.nodeID), 0o755); err != nil {
			return fmt.Errorf("node ID: %w", err)
		}
		if _, err := atomicfile.WriteIfChanged(c.nodeID, []byte(id+"\n"), 0o644); err != nil {
			return fmt.Errorf("node ID: %w", err)
		}
	}
	if !c.cfg.Host.ResolvConfUnusable {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(c.cfg.ResolvConf), 0o755); err != nil {
		return fmt.Errorf("resolv.conf for pods: %w", err)
	}
	if _, err := atomicfile.WriteIfChanged(c.cfg.ResolvConf, []byte(publicResolvers), 0o644); err != nil {
		return fmt.Errorf("resolv.conf for pods: %w", err)
	}
	return nil
}

// Run runs the kubelet; it is ready when it is well and its Node exists.
func (c *Component) Run(ctx context.Context, ready func()) error {
	defer c.probe.Close()
	if err := checkKernelLog(); err != nil {
		return err
	}
	if err := checkInotify(func() (int, error) { return unix.InotifyInit1(unix.IN_CLOEXEC) }); err != nil {
		return err
	}
	if err := healthprobe.Free(ctx, healthzAddress, c.servingAddress()); err != nil {
		return err
	}
	rest, err := clientcmd.BuildConfigFromFlags("", c.kubeconfig)
	if err != nil {
		return fmt.Errorf("%s: %w", c.kubeconfig, err)
	}
	client, err := kubernetes.NewForConfig(rest)
	if err != nil {
		return fmt.Errorf("%s: %w", c.kubeconfig, err)
	}
	started := time.Now()
	return kernel.RunProbed(ctx, ready, c.run, 100*time.Millisecond, func(ctx context.Context) error {
		return c.registered(ctx, client, started)
	})
}

func servingDefaults() map[string]string {
	return map[string]string{"address": "0.0.0.0", "port": "10250"}
}

// servingAddress is where the kubelet answers the API server; it ends the process
// when that is taken.
func (c *Component) servingAddress() string {
	defaults := servingDefaults()
	return net.JoinHostPort(componentargs.Value("address", defaults, c.cfg.KubeletArg), componentargs.Value("port", defaults, c.cfg.KubeletArg))
}

// registered asks the kubelet how it is, and the API what it said of its Node.
func (c *Component) registered(ctx context.Context, client kubernetes.Interface, started time.Time) error {
	if err := c.probe.Check(ctx); err != nil {
		return err
	}
	node, err := client.CoreV1().Nodes().Get(ctx, c.cfg.NodeName, metav1.GetOptions{})
	if err != nil {
		return err
	}
	return reported(node, started)
}

// Check asks the kubelet how it is.
func (c *Component) Check(ctx context.Context) error { return c.probe.Check(ctx) }

// reported waits for a status written by this kubelet: after a restart the Node
// is there already, with what the one before said. The API keeps whole seconds.
func reported(node *corev1.Node, started time.Time) error {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady && !condition.LastHeartbeatTime.Time.Before(started.Truncate(time.Second)) {
			return nil
		}
	}
	return fmt.Errorf("node %s has not reported since this start", node.Name)
}

// checkKernelLog says early what the kubelet says late: its OOM watcher needs
// the kernel log, which containers and user namespaces often lack.
func checkKernelLog() error {
	f, err := os.Open("/dev/kmsg")
	if err != nil {
		return fmt.Errorf("the kubelet needs the kernel log: %s; make /dev/kmsg readable for this process", strings.TrimPrefix(err.Error(), "open "))
	}
	return f.Close()
}

// inotifyNeeded is what the kubelet opens at its start: for the clients' CA, static
// pods, volume plugins, its certificate and, the last, cAdvisor. It tries again for the
// others, but without cAdvisor's it ends the process and says nothing of the cause
// (initializeRuntimeDependentModules).
const inotifyNeeded = 5

// checkInotify says before the start that other programs have taken the instances.
func checkInotify(open func() (fd int, err error)) error {
	for n := range inotifyNeeded {
		fd, err := open()
		if errors.Is(err, unix.EMFILE) {
			return fmt.Errorf("the kubelet needs %d inotify instances and can have %d: raise the sysctl fs.inotify.max_user_instances, "+
				"of which other programs of root have taken the rest", inotifyNeeded, n)
		}
		if err != nil {
			return fmt.Errorf("the kubelet needs inotify: %w", err)
		}
		defer unix.Close(fd) // only when all are open
	}
	return nil
}
