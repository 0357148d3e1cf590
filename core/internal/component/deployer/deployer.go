package deployer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/hostabi"
)

const (
	// scanInterval bounds how late a change is seen where the kernel does not
	// tell of it: behind a symbolic link, on a network file system.
	scanInterval = time.Second
	// eventDelay gathers the events of one write.
	eventDelay = 20 * time.Millisecond
)

// Deployer is the component. Make one with New.
type Deployer struct {
	cfg        *config.Config
	dir        string
	render     extension.Deployer
	kubeconfig string
	log        *slog.Logger

	mu      sync.Mutex
	plan    map[string][]byte // the network plan's manifests, nil until there are any
	wake    chan struct{}     // one slot: plan was set
	scanErr error             // of the last look at the directory
	addons  []Addon           // as of then
}

// New returns the deployer of a server. kubeconfig is the path of the
// credentials of a cluster administrator; it is read when Run starts.
func New(cfg *config.Config, data paths.Data, render extension.Deployer, kubeconfig string, log *slog.Logger) *Deployer {
	return &Deployer{
		cfg: cfg, dir: data.Manifests(), render: render, kubeconfig: kubeconfig, log: log,
		wake: make(chan struct{}, 1),
	}
}

// SetPlanManifests hands over the manifests of the network plan, replacing
// those of an earlier plan; an empty list removes them. They are written to the
// manifests directory as packaged files and may be edited, skipped and disabled
// like those. It may be called at any time from any goroutine.
func (d *Deployer) SetPlanManifests(manifests []hostabi.PlanManifest) error {
	files, err := planManifests(manifests)
	if err != nil {
		return err
	}
	d.mu.Lock()
	d.plan = files
	d.mu.Unlock()
	select {
	case d.wake <- struct{}{}:
	default:
	}
	return nil
}

// Check reports whether the manifests directory can be read.
func (d *Deployer) Check(context.Context) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.scanErr
}

// Run keeps the manifests directory in the cluster until ctx is done. It calls
// ready after the first pass: then each file has been applied or its failure
// reported; failed files are tried again and do not hold the server up.
func (d *Deployer) Run(ctx context.Context, ready func()) error {
	files, err := bundledManifests()
	if err != nil {
		return err
	}
	client, err := connect(d.kubeconfig)
	if err != nil {
		return err
	}
	scan := newScanner(d.dir, time.Now)
	scan.salt = digestOfVariables(Variables(d.cfg))
	packaged := &packager{dir: d.dir, disabled: disabledStems(d.cfg.Disable), log: d.log, trust: scan.trust}
	if err := packaged.sync(fromBundle, files); err != nil {
		return err
	}
	event, stopEvents := startEvents(ctx, client.kubernetes, d.cfg.NodeName)
	defer stopEvents()
	e := &engine{
		cluster: client, render: d.render, variables: Variables(d.cfg), server: d.cfg.NodeName, dir: d.dir,
		disabled: packaged.disabled, event: event, log: d.log, now: time.Now,
		scanner: scan, rendered: map[string]*rendering{}, collision: map[string]string{},
	}
	if err := d.start(ctx, e); err != nil {
		return err
	}
	d.warnUnknown(e, packaged.disabled, files)
	return d.loop(ctx, e, packaged, ready)
}

// start defines the Addon kind and reads the Addons, as often as that takes.
func (d *Deployer) start(ctx context.Context, e *engine) error {
	var again retry
	last := ""
	for {
		err := crd.Ensure(ctx, e.cluster.dynamic, fieldManager, crd.AddonResource)
		if err == nil {
			err = e.load(ctx)
		}
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err.Error() != last {
			d.log.Warn("deployer cannot start yet", "error", err)
			last = err.Error()
		}
		again.failed(time.Now())
		if err := wait(ctx, again.wait); err != nil {
			return err
		}
	}
}

func wait(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

func (d *Deployer) loop(ctx context.Context, e *engine, packaged *packager, ready func()) error {
	watch := d.newWatch()
	defer watch.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	first, hurried := true, false
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-watch.events():
			// Only the first event brings the scan forward: a file that is
			// written to without end would put it off without end.
			if !hurried {
				hurried = true
				timer.Reset(eventDelay)
			}
			continue
		case err := <-watch.errors():
			// Lost events are made up for by the next scan.
			d.log.Debug("watch of the manifests directory", "error", err)
			continue
		case <-d.wake:
			if err := packaged.sync(fromPlan, d.planFiles()); err != nil {
				d.log.Error("manifests of the network plan", "error", err)
			}
			timer.Reset(0)
			continue
		case <-timer.C:
		}
		hurried = false
		next, err := e.turn(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		d.note(err, e.summary())
		if e.last != nil {
			watch.add(e.last.dirs)
			if first {
				first = false
				ready()
			}
		}
		timer.Reset(time.Until(next))
	}
}

func (d *Deployer) planFiles() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	return maps.Clone(d.plan)
}

// note keeps the outcome of a scan for Check and Addons, and logs it when it is
// another one.
func (d *Deployer) note(err error, addons []Addon) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.addons = addons
	if err != nil && (d.scanErr == nil || d.scanErr.Error() != err.Error()) {
		d.log.Error("manifests directory cannot be read; nothing is applied or deleted", "error", err)
	}
	d.scanErr = err
}

func (d *Deployer) warnUnknown(e *engine, disabled map[string]bool, bundle map[string][]byte) {
	packaged, present := map[string]bool{}, map[string]bool{}
	for name := range bundle {
		packaged[stem(name)] = true
	}
	entries, err := os.ReadDir(d.dir)
	if err != nil {
		return // the first scan says so
	}
	for _, entry := range entries {
		present[stem(entry.Name())] = true
	}
	for _, s := range e.addons {
		present[stem(s.source())] = true
	}
	for _, name := range unknownDisables(disabled, packaged, present) {
		d.log.Warn("--disable names nothing that is deployed here", "disable", name,
			"packaged", strings.Join(slices.Sorted(maps.Keys(packaged)), ","))
	}
}

func splitList(value string) []string {
	return strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
}

// dirWatch is a file system watch that may be missing: scanning makes up for it.
type dirWatch struct {
	watcher *fsnotify.Watcher
	added   map[string]bool
	log     *slog.Logger
}

func (d *Deployer) newWatch() *dirWatch {
	w := &dirWatch{added: map[string]bool{}, log: d.log}
	watcher, err := fsnotify.NewWatcher()
	if err == nil {
		if err = watcher.Add(d.dir); err == nil {
			w.watcher = watcher
			return w
		}
		err = errors.Join(err, watcher.Close())
	}
	d.log.Warn("manifests directory cannot be watched, it is scanned instead", "error", fmt.Errorf("watch %s: %w", d.dir, err))
	return w
}

func (w *dirWatch) events() <-chan fsnotify.Event {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Events
}

func (w *dirWatch) errors() <-chan error {
	if w.watcher == nil {
		return nil
	}
	return w.watcher.Errors
}

// add makes the watch cover directories that a scan found.
func (w *dirWatch) add(dirs []string) {
	if w.watcher == nil {
		return
	}
	for _, dir := range dirs {
		// Again each time: a directory that was replaced has lost its watch.
		if err := w.watcher.Add(dir); err != nil && !w.added[dir] {
			w.log.Debug("directory is not watched, only scanned", "dir", dir, "error", err)
		}
		w.added[dir] = true
	}
}

func (w *dirWatch) close() {
	if w.watcher != nil {
		_ = w.watcher.Close() // it only gives back a descriptor
	}
}
