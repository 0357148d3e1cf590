// Package kine runs kine, which speaks etcd's protocol on a unix socket and
// keeps its data in SQLite, PostgreSQL, MySQL or NATS.
package kine

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/endpoint"
	"github.com/k3s-io/kine/pkg/tls"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// emulatedEtcd is the version kine reports; the API server asks for it to
// decide which etcd features it may use. From 3.5.13 on it would rely on progress
// notes; see RATIONALE.md, "kine is not asked how far its watches are".
const emulatedEtcd = "3.5.12"

// Driver returns the driver: it serves plan's endpoint on the unix socket until
// ctx is done and the last request has been answered. A database that cannot be
// reached is waited for, five minutes at most; one that is damaged is an error.
func Driver(log *slog.Logger) func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
	return func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
		last := ""
		deaf := quirks.HearKine(func(reason string) {
			kernel.Report(ctx, "%s: %s", plan.Description, reason)
			if reason != last { // it tries every second
				last = reason
				log.Warn("the database cannot be opened yet", "database", plan.Description, "reason", reason)
			}
		})
		defer deaf()
		if err := checkFile(ctx, plan.Endpoint); err != nil {
			return err
		}
		quirks.ServeKine("sqlite", openSQLite)
		return run(ctx, socket, plan)
	}
}

func run(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("directory of the datastore socket: %w", err)
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the datastore socket of an earlier run: %w", err)
	}
	var running sync.WaitGroup
	listening := make(chan error, 1)
	go func() { listening <- listen(ctx, &running, socket, plan) }()
	select {
	case err := <-listening:
		if err != nil {
			return err
		}
	case <-ctx.Done():
		// kine tries for minutes to reach a database, and nothing stops it. It
		// has served nobody yet, so there is nothing to wait for either.
		return nil
	}
	<-ctx.Done()
	running.Wait()
	return nil
}

func listen(ctx context.Context, running *sync.WaitGroup, socket string, plan hostabi.DatastorePlan) error {
	address := "unix://" + socket
	served, err := endpoint.Listen(ctx, endpoint.Config{
		WaitGroup: running,
		Listener:  address,
		Endpoint:  plan.Endpoint,
		BackendTLSConfig: tls.Config{
			CAFile: plan.TLS.CAFile, CertFile: plan.TLS.CertFile, KeyFile: plan.TLS.KeyFile,
		},
		ConnectionPoolConfig: generic.ConnectionPoolConfig{
			MaxIdle: plan.Pool.MaxIdle, MaxOpen: plan.Pool.MaxOpen, MaxLifetime: seconds(plan.Pool.ConnMaxLifetimeSeconds),
		},
		NotifyInterval:      5 * time.Second,
		EmulatedETCDVersion: emulatedEtcd,
		CompactInterval:     seconds(plan.Compaction.IntervalSeconds),
		CompactTimeout:      cmp.Or(seconds(plan.Compaction.TimeoutSeconds), 5*time.Second),
		CompactMinRetain:    cmp.Or(plan.Compaction.MinRetain, 1000),
		CompactBatchSize:    cmp.Or(plan.Compaction.BatchSize, 1000), // kine refuses 0
		PollBatchSize:       500,
	})
	if err != nil {
		return err
	}
	// What speaks etcd already kine does not serve; it gives the address back.
	if !slices.Equal(served.Endpoints, []string{address}) {
		return fmt.Errorf("the plan's endpoint is etcd's, which kine does not serve; the datastore plugin should plan another driver for it")
	}
	return nil
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
