package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	firstDelay = 250 * time.Millisecond
	maxDelay   = 10 * time.Second
	// settled is how long a tunnel has to live for the next one to be tried at once.
	settled = 30 * time.Second
	// dialTimeout bounds what the node dials for a server.
	dialTimeout = 10 * time.Second
)

// ClientOptions are what the unit needs from its surroundings. The functions are
// called when the unit runs.
type ClientOptions struct {
	NodeName    string
	Addresses   []string // of the node, as --node-ip
	KubeletPort uint16
	Cluster     func() (joinapi.NodeConfig, error)
	// Servers gives the supervisors, each https://host:port, and a channel that is
	// closed when there are others; nil is never.
	Servers func() (urls []string, changed <-chan struct{})
	// The node's client certificate and the servers' authorities, read again for
	// each tunnel.
	CertFile, KeyFile, CAFile string
	// Kubernetes may list and watch the node's pods; it is called in mode pod alone.
	Kubernetes func() (kubernetes.Interface, error)
	Log        *slog.Logger
}

// Client is the unit on nodes. It keeps a tunnel open to every server.
type Client struct {
	ClientOptions
	limits limits
	fence  *fence

	mu     sync.Mutex
	broken map[string]error // by server; nil for one whose tunnel is open
}

// NewClient makes the unit.
func NewClient(o ClientOptions) *Client {
	return &Client{ClientOptions: o, limits: standard(), broken: map[string]error{}}
}

// Run opens the tunnels, calls ready when the first is open, and keeps them until
// ctx is done. A server that takes none has none.
func (c *Client) Run(ctx context.Context, ready func()) error {
	cluster, err := c.Cluster()
	if err != nil {
		return err
	}
	if mode := cluster.EgressSelectorMode; mode == "" || mode == config.EgressDisabled {
		ready()
		<-ctx.Done()
		return nil
	}
	if c.fence, err = c.newFence(cluster); err != nil {
		return err
	}
	if c.fence.mode == config.EgressPod {
		stop, err := c.watchPods(ctx)
		if err != nil {
			return err
		}
		defer stop()
	}
	var once sync.Once
	opened := func() { once.Do(ready) }
	var all sync.WaitGroup
	defer all.Wait()
	open := map[string]context.CancelFunc{}
	for {
		urls, changed := c.Servers()
		for _, u := range urls {
			if open[u] == nil {
				own, stop := context.WithCancel(ctx)
				open[u] = stop
				all.Go(func() { c.keep(own, u, opened) })
			}
		}
		for u, stop := range maps.Clone(open) {
			if !slices.Contains(urls, u) {
				stop()
				delete(open, u)
			}
		}
		select {
		case <-changed:
		case <-ctx.Done():
			for _, stop := range open {
				stop()
			}
			return nil
		}
	}
}

// Check says which servers cannot reach this node.
func (c *Client) Check(context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, server := range slices.Sorted(maps.Keys(c.broken)) {
		if err := c.broken[server]; err != nil {
			errs = append(errs, fmt.Errorf("no tunnel to %s: %w", server, err))
		}
	}
	return errors.Join(errs...)
}

// newFence makes the rules of a mode. One that this node does not know is taken
// for the narrowest.
func (c *Client) newFence(cluster joinapi.NodeConfig) (*fence, error) {
	f := &fence{mode: cluster.EgressSelectorMode, node: c.NodeName, kubeletPort: c.KubeletPort}
	if !slices.Contains([]string{config.EgressPod, config.EgressCluster}, f.mode) {
		f.mode = config.EgressAgent
	}
	for _, text := range c.Addresses {
		ip, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("tunnel: --node-ip %q: %w", text, err)
		}
		f.addresses = append(f.addresses, ip.Unmap())
	}
	for _, text := range cluster.ClusterCIDR {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("tunnel: --cluster-cidr %q: %w", text, err)
		}
		f.cluster = append(f.cluster, p)
	}
	return f, nil
}

// watchPods follows the pods of this node until stop is called.
func (c *Client) watchPods(ctx context.Context) (stop func(), err error) {
	client, err := c.Kubernetes()
	if err != nil {
		return nil, err
	}
	own := fields.OneTermEqualSelector("spec.nodeName", c.NodeName).String()
	factory := informers.NewSharedInformerFactoryWithOptions(client, 0,
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.FieldSelector = own }))
	pods := factory.Core().V1().Pods().Informer()
	if err := pods.AddIndexers(podIndexers()); err != nil {
		return nil, fmt.Errorf("index of pods: %w", err)
	}
	c.fence.pods = pods.GetIndexer()
	watching, cancel := context.WithCancel(ctx)
	factory.Start(watching.Done())
	return func() { cancel(); factory.Shutdown() }, nil
}

// keep opens a tunnel to server again and again.
func (c *Client) keep(ctx context.Context, server string, opened func()) {
	defer c.note(ctx, server, nil)
	var said string
	for delay := firstDelay; ; delay = min(2*delay, maxDelay) {
		began := time.Now()
		err := c.connect(ctx, server, func() {
			c.note(ctx, server, nil)
			c.Log.Info("tunnel opened", "server", server)
			said = ""
			opened()
		})
		if ctx.Err() != nil {
			return
		}
		if time.Since(began) > settled {
			delay = firstDelay
		}
		c.note(ctx, server, err)
		if text := err.Error(); text != said {
			c.Log.Warn("no tunnel: this server cannot reach the node by it, trying again", "server", server, "error", err)
			said = text
		}
		// Nodes that lost a server together do not come back in step.
		timer := time.NewTimer(delay/2 + rand.N(delay))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

// note keeps why there is no tunnel to server. One that is not wanted any more is
// forgotten.
func (c *Client) note(ctx context.Context, server string, err error) {
	c.mu.Lock()
	if ctx.Err() != nil {
		delete(c.broken, server)
	} else {
		c.broken[server] = err
	}
	c.mu.Unlock()
	kernel.Waiting(ctx, err)
}

// connect opens one tunnel and serves it until it ends.
func (c *Client) connect(ctx context.Context, server string, opened func()) error {
	to, err := url.Parse(server)
	if err != nil || to.Scheme != "https" || to.Host == "" {
		return fmt.Errorf("server %q: want https://host:port", server)
	}
	trust, err := c.tls()
	if err != nil {
		return err
	}
	dialer := websocket.Dialer{
		NetDialTLSContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			inner, err := (&tls.Dialer{Config: trust}).DialContext(ctx, network, address)
			if err != nil {
				return nil, err
			}
			return &wire{Conn: inner, silence: c.limits.silence}, nil
		},
		HandshakeTimeout: handshake, ReadBufferSize: maxWrite, WriteBufferSize: 2 * maxWrite, // one frame a message
	}
	ws, res, err := dialer.DialContext(ctx, "wss://"+to.Host+joinapi.PathConnect, nil)
	if err != nil {
		if res == nil {
			return err
		}
		body, _ := io.ReadAll(res.Body) // a kilobyte at most, which the websocket library has read
		return fmt.Errorf("the server answers %s: %s", res.Status, joinapi.ReadStatus(body))
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	opened()
	streams := &pairs{session: ctx, dial: c.dial, limits: c.limits, open: map[int64]*pair{}}
	err = newSession(ws, streams.connect, c.limits).serve(ctx)
	return fmt.Errorf("the connection ended: %w", err)
}

// tls is how a node shows itself. A websocket needs HTTP/1.1.
func (c *Client) tls() (*tls.Config, error) {
	bundle, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, err
	}
	roots, err := pki.ParsePool(bundle)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.CAFile, err)
	}
	own, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("the node's certificate: %w", err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, Certificates: []tls.Certificate{own}, NextProtos: []string{"http/1.1"}}, nil
}

// dial dials what a server asks for, if it may have it.
func (c *Client) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if err := c.fence.allows(network, address); err != nil {
		c.Log.Warn("a server asked for what it may not have", "error", err)
		return nil, err
	}
	return (&net.Dialer{Timeout: dialTimeout}).DialContext(ctx, network, address)
}
