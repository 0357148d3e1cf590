// Package kine runs kine, which speaks etcd's protocol on a unix socket and
// keeps its data in SQLite, PostgreSQL, MySQL or NATS.
package kine

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/k3s-io/kine/pkg/drivers/generic"
	"github.com/k3s-io/kine/pkg/endpoint"
	"github.com/k3s-io/kine/pkg/tls"

	"github.com/cleat-dev/cleat/hostabi"
)

// emulatedEtcd is the version kine reports; the API server asks for it to
// decide which etcd features it may use.
const emulatedEtcd = "3.5.13"

// Run serves plan's endpoint on the unix socket until ctx is done and the last
// request has been answered.
func Run(ctx context.Context, socket string, plan hostabi.DatastorePlan) error {
	if err := os.MkdirAll(filepath.Dir(socket), 0o700); err != nil {
		return fmt.Errorf("directory of the datastore socket: %w", err)
	}
	if err := os.Remove(socket); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the datastore socket of an earlier run: %w", err)
	}
	var running sync.WaitGroup
	_, err := endpoint.Listen(ctx, endpoint.Config{
		WaitGroup: &running,
		Listener:  "unix://" + socket,
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
	<-ctx.Done()
	running.Wait()
	return nil
}

func seconds(n int) time.Duration { return time.Duration(n) * time.Second }
