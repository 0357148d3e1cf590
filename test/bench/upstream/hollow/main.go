// Command hollow is a number of hollow nodes for the benchmark: real kubelets over
// a container runtime that only pretends (upstream's kubemark), and what else
// a node asks of an API server. Each joins as an agent does and has certificates of
// its own. All run in one process, until it is told to end or its time is up.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"k8s.io/client-go/rest"

	"github.com/cleat-dev/cleat/test/bench/upstream/hollow/join"
)

// joiners is how many nodes join at a time.
const joiners = 4

type order struct {
	server    string
	tokenFile string
	dir       string
	address   string
	first     int
	count     int
	limit     time.Duration
}

func main() {
	var o order
	flag.StringVar(&o.server, "server", "", "`URL` of a server, https://host:port")
	flag.StringVar(&o.tokenFile, "token-file", "", "`file` with the full join token")
	flag.StringVar(&o.dir, "dir", "", "`directory` for what the kubelets write")
	flag.StringVar(&o.address, "address", "", "`IP` address of this machine, which is every node's")
	flag.IntVar(&o.first, "first", 1, "number of the first node: 7 is hollow-7")
	flag.IntVar(&o.count, "count", 1, "how many nodes, up to 1000")
	flag.DurationVar(&o.limit, "limit", time.Hour, "end after this time, up to 12h")
	flag.Parse()
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "hollow:", err)
		os.Exit(1)
	}
}

func run(o order) error {
	if o.first < 1 || o.count < 1 || o.count > 1000 || o.limit <= 0 || o.limit > 12*time.Hour || o.dir == "" {
		return errors.New("-first, -count, -limit or -dir: out of bounds; see -help")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, o.limit)
	defer cancel()
	text, err := os.ReadFile(o.tokenFile)
	if err != nil {
		return err
	}
	token, err := join.ParseToken(string(text))
	if err != nil {
		return err
	}
	server, err := join.Connect(ctx, o.server, token)
	if err != nil {
		return err
	}
	muteCollectors()
	if err := start(ctx, server, o); err != nil {
		return err
	}
	server.Close()
	fmt.Printf("%d nodes run\n", o.count)
	<-ctx.Done()
	return nil
}

// start starts all nodes, a few at a time.
func start(ctx context.Context, server *join.Server, o order) error {
	var group errgroup.Group
	group.SetLimit(joiners)
	for n := o.first; n < o.first+o.count; n++ {
		group.Go(func() error {
			name := fmt.Sprintf("hollow-%d", n)
			if err := startNode(ctx, server, name, o.address, filepath.Join(o.dir, name)); err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			return nil
		})
	}
	return group.Wait()
}

// startNode joins and starts what a node consists of, which ends with ctx.
func startNode(ctx context.Context, server *join.Server, name, address, dir string) error {
	node := join.NewNode(name)
	configs := map[string]*rest.Config{}
	for _, which := range []string{join.Kubelet, join.KubeProxy, join.Network} {
		pair, err := server.Certificate(ctx, node, which)
		if err != nil {
			return err
		}
		configs[which] = &rest.Config{
			Host:            server.URL,
			TLSClientConfig: rest.TLSClientConfig{CAData: server.CA, CertData: pair.Cert, KeyData: pair.Key},
		}
	}
	if err := startKubelet(ctx, configs[join.Kubelet], name, address, dir); err != nil {
		return fmt.Errorf("kubelet: %w", err)
	}
	if err := startProxy(ctx, configs[join.KubeProxy], name); err != nil {
		return fmt.Errorf("kube-proxy: %w", err)
	}
	if err := startNetwork(ctx, configs[join.Network], name); err != nil {
		return fmt.Errorf("network: %w", err)
	}
	return nil
}
