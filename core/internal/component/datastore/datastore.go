// Package datastore is the unit that makes cluster state reachable on a unix
// socket. A plugin decides what is behind it; the unit runs the driver the plan
// names and is ready when a write and a read went through.
package datastore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/etcdstore"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/hostabi"
)

// Endpoint is where etcd clients dial.
const Endpoint = "unix://" + paths.KineSocket

// minFree is twice what SQLite's write-ahead log grows to before it begins anew.
const minFree = 8 << 20

// Driver serves plan's endpoint on the unix socket until ctx is done.
type Driver func(ctx context.Context, socket string, plan hostabi.DatastorePlan) error

// Component is the unit. Make it with New.
type Component struct {
	cfg     *config.Config
	data    paths.Data
	plugins extension.Datastore
	drivers map[string]Driver
	admit   func(ctx context.Context) error
	socket  string // where the driver serves
	minFree uint64 // bytes that the disk of the database directory must have

	mu   sync.Mutex
	plan hostabi.DatastorePlan
}

// New returns the unit; drivers are the ways of running a datastore that this
// binary knows, by the name a plan calls them. admit is asked once the
// datastore can be read and before it is first written: its error ends the
// unit, so that a server that does not belong here leaves no trace.
func New(cfg *config.Config, data paths.Data, plugins extension.Datastore, drivers map[string]Driver, admit func(ctx context.Context) error) *Component {
	return &Component{cfg: cfg, data: data, plugins: plugins, drivers: drivers, admit: admit, socket: paths.KineSocket, minFree: minFree}
}

// Plan returns what the plugin decided; it is set once the unit is ready.
func (c *Component) Plan() hostabi.DatastorePlan {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.plan
}

// Run asks for the plan, runs its driver and probes it.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(c.data.DB(), 0o700); err != nil {
		return fmt.Errorf("database directory: %w", err)
	}
	kernel.Report(ctx, "asking the datastore plugins")
	plan, err := c.plugins.PlanDatastore(ctx, hostabi.DatastoreRequest{
		Endpoint: c.cfg.DatastoreEndpoint,
		DBDir:    c.data.DB(),
		NodeName: c.cfg.NodeName,
	})
	if err != nil {
		return err
	}
	driver, ok := c.drivers[plan.Driver]
	if !ok {
		return fmt.Errorf("the datastore plan asks for driver %q, which this binary does not have; see --datastore-endpoint", plan.Driver)
	}
	c.mu.Lock()
	c.plan = plan
	c.mu.Unlock()

	store, err := etcdstore.New("unix://" + c.socket)
	if err != nil {
		return err
	}
	defer store.Close()
	kernel.Report(ctx, "opening %s", plan.Description)
	serving, refuse := context.WithCancelCause(ctx)
	defer refuse(nil)
	admitted := false
	err = kernel.RunProbed(serving, ready, func(ctx context.Context) error {
		return driver(ctx, c.socket, plan)
	}, 50*time.Millisecond, func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		// A driver listens when it has reached what is behind it, and says so far why it has not.
		if _, err := os.Stat(c.socket); err != nil {
			return errors.New("nothing is served yet")
		}
		if _, _, err := store.Get(ctx, probeKey); err != nil {
			return err
		}
		if !admitted {
			if err := c.admit(serving); err != nil {
				refuse(err)
				return err
			}
			admitted = true
		}
		if err := roundTrip(ctx, store, time.Now()); err != nil {
			return err
		}
		return c.restrict()
	})
	if ctx.Err() == nil && serving.Err() != nil {
		return context.Cause(serving) // refused
	}
	if err != nil {
		return fmt.Errorf("%s: %w", plan.Description, err)
	}
	return nil
}

// restrict makes database files readable by root alone: they hold every Secret,
// and SQLite makes them readable by all. What it makes later takes the mode of
// its main file.
func (c *Component) restrict() error {
	entries, err := os.ReadDir(c.data.DB())
	if err != nil {
		return fmt.Errorf("database directory: %w", err)
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		// One that is gone by now was temporary.
		if err := os.Chmod(filepath.Join(c.data.DB(), e.Name()), 0o600); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("database file: %w", err)
		}
	}
	return nil
}

// Check reads; it does not write, because an idle cluster should stay idle. That
// writes will fail shows on the disk.
func (c *Component) Check(ctx context.Context) error {
	var fs unix.Statfs_t
	if err := unix.Statfs(c.data.DB(), &fs); err != nil {
		return fmt.Errorf("database directory %s: %w", c.data.DB(), err)
	}
	if free := fs.Bavail * uint64(fs.Bsize); free < c.minFree {
		return fmt.Errorf("the disk of %s has %d KiB left, and without room every write to the cluster fails: make room", c.data.DB(), free>>10)
	}
	store, err := etcdstore.New("unix://" + c.socket)
	if err != nil {
		return err
	}
	defer store.Close()
	_, _, err = store.Get(ctx, probeKey)
	return err
}
