// Package netpolicy enforces the NetworkPolicies of networking.k8s.io/v1 on the
// pods of this node, with a table of nftables. See "Network policy is a table of
// our own" in RATIONALE.md for the why.
//
// Each pod of the node has an element in a map for each direction, which leads to
// the chain of all pods that have the same policies; that jumps to a chain for
// each of these policies, and drops what none of them accepted. Peers are sets of
// addresses. When pods come and go, only elements change.
package netpolicy

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/knftables"
)

const (
	// gatherTime is how long changes are gathered once there is one.
	gatherTime = 5 * time.Millisecond
	// share bounds what the work may take of a processor: after it there is a pause
	// so many times as long.
	share    = 4
	maxPause = 2 * time.Second
	// intactInterval is how often the table is looked at, which somebody may have
	// flushed.
	intactInterval = 15 * time.Second
)

// Options are what a driver needs.
type Options struct {
	// Client may list and watch pods, namespaces and NetworkPolicies.
	Client kubernetes.Interface
	Node   string         // its name
	Local  []netip.Prefix // of its pods, at most one a family
	Bridge string         // link that pods are plugged into, "" = none
	// Attachments is where the runtime's CNI library records the networks of pods.
	Attachments string
	Log         *slog.Logger
}

// Guard lets nothing through from or to pods in the given ranges until Run knows
// them. It leaves alone a table that is there already: that is what was in force
// last. bridge is as in Options.
func Guard(ctx context.Context, local []netip.Prefix, bridge string) error {
	nft, err := open()
	if err != nil {
		return err
	}
	rs := newRuleset(baseFacts{local, bridge})
	if chains, err := nft.List(ctx, "chains"); err == nil && len(chains) >= len(directionsOf()) {
		return nil
	} else if err != nil && !knftables.IsNotFound(err) {
		return fmt.Errorf("table %s: %w", Table, err)
	}
	tx := nft.NewTransaction()
	replace(tx, rs)
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("table %s: %w", Table, err)
	}
	return nil
}

// Clean removes the table, if there is one.
func Clean(ctx context.Context) error {
	nft, err := open()
	if err != nil {
		return err
	}
	tx := nft.NewTransaction()
	tx.Add(&knftables.Table{}) // what is not there cannot be deleted
	tx.Delete(&knftables.Table{})
	if err := nft.Run(ctx, tx); err != nil {
		return fmt.Errorf("table %s: %w", Table, err)
	}
	return nil
}

func open() (knftables.Interface, error) {
	nft, err := knftables.New(knftables.InetFamily, Table)
	if err != nil {
		return nil, fmt.Errorf("NetworkPolicies need the program nft and the right to use it; install nftables, or see --disable-network-policy: %w", err)
	}
	return nft, nil
}

// Run enforces policies until ctx is done; ready is called when all that there
// are at the start are in force. The table stays when it ends.
func Run(ctx context.Context, o Options, ready func()) error {
	nft, err := open()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	changes := make(chan struct{}, 1)
	changed := func() {
		select {
		case changes <- struct{}{}:
		default: // one is waiting already
		}
	}
	attached, err := watchAttachments(o.Attachments)
	if err != nil {
		return err
	}
	defer attached.close()
	followed := make(chan struct{})
	defer func() { cancel(nil); <-followed }()
	go func() {
		defer close(followed)
		if err := attached.follow(ctx, changed); err != nil {
			cancel(err)
		}
	}()
	w, err := watchCluster(ctx, o.Client, o.Log, changed)
	if err != nil {
		return endOf(ctx, err)
	}
	defer func() { cancel(nil); w.stop() }()

	d := &driver{nft: nft, base: baseFacts{o.Local, o.Bridge}, log: o.Log, cluster: func() (*cluster, error) {
		return w.snapshot(o.Node, attached.addresses())
	}, node: o.Node}
	if err := d.sync(ctx); err != nil {
		return endOf(ctx, err)
	}
	ready()
	return endOf(ctx, d.keep(ctx, changes))
}

// endOf is nil if ctx was cancelled from outside.
func endOf(ctx context.Context, err error) error {
	if ctx.Err() == nil {
		return err
	}
	if cause := context.Cause(ctx); cause != context.Canceled {
		return cause
	}
	return nil
}

// driver keeps the table as the cluster wants it.
type driver struct {
	nft     knftables.Interface
	base    baseFacts
	node    string
	cluster func() (*cluster, error)
	log     *slog.Logger
	written *ruleset // nil = nobody knows what the table holds
}

// keep follows changes.
func (d *driver) keep(ctx context.Context, changes <-chan struct{}) error {
	look := time.NewTicker(intactInterval)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-look.C:
			switch ok, err := intact(ctx, d.nft, d.written); {
			case err != nil:
				return err
			case ok:
				continue
			}
			d.log.Warn("somebody changed the rules of network policies, they are written anew", "table", Table)
			d.written = nil
		case <-changes:
			if !wait(ctx, gatherTime) {
				return nil
			}
			select {
			case <-changes: // what came meanwhile is in the snapshot
			default:
			}
		}
		begin := time.Now()
		if err := d.sync(ctx); err != nil {
			return err
		}
		if !wait(ctx, min(share*time.Since(begin), maxPause)) {
			return nil
		}
	}
}

func wait(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// sync brings the table to what the cluster wants, in one transaction.
func (d *driver) sync(ctx context.Context) error {
	begin := time.Now()
	c, err := d.cluster()
	if err != nil {
		return err
	}
	rs := compile(d.base, d.node, c)
	tx := d.nft.NewTransaction()
	if d.written == nil {
		replace(tx, rs)
	} else {
		update(tx, d.written, rs)
	}
	if tx.NumOperations() == 0 {
		d.written = rs
		return nil
	}
	if err = d.nft.Run(ctx, tx); err != nil && d.written != nil {
		d.log.Warn("rules of network policies do not fit what is there, they are written anew", "table", Table, "error", err)
		tx = d.nft.NewTransaction()
		replace(tx, rs)
		err = d.nft.Run(ctx, tx)
	}
	if err != nil {
		d.written = nil
		return fmt.Errorf("table %s: %w", Table, err)
	}
	d.written = rs
	d.log.Debug("network policies in force", "operations", tx.NumOperations(), "took", time.Since(begin))
	return nil
}
