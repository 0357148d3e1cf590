package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/prometheus/procfs"

	"github.com/cleat-dev/cleat/test/bench/load"
	"github.com/cleat-dev/cleat/test/bench/processes"
)

// pollInterval is how often the starter looks for what it waits for.
const pollInterval = 20 * time.Millisecond

// stopPatience is how long a program may take to end.
const stopPatience = 40 * time.Second

// program is one program of a cluster.
type program struct {
	Name  string
	Args  []string
	Env   []string
	After string // what it waits for: "", a "unix:" or "tcp:" address that takes connections, or an event
	Once  bool   // it ends by itself, with status 0
}

// The events that a program can wait for.
const (
	afterReadyz  = "readyz"  // of the API server
	afterNode    = "node"    // the Node is registered
	afterPodCIDR = "podcidr" // the Node has a range for its pods
)

// spec is what the starter is to do.
type spec struct {
	Programs   []program
	Logs       string // directory
	Kubeconfig string // of an administrator; it may appear later
	Readyz     string // path
	Node       string
	Pod        json.RawMessage // to create; its name is PodName
	PodName    string
	Result     string // file that gets the bootTimes
	Patience   time.Duration
}

// starter runs the programs of a cluster and watches it come up.
type starter struct {
	spec
	begun  time.Time
	events map[string]chan struct{}
	failed chan error

	mu      sync.Mutex
	running []*exec.Cmd
	exits   []chan struct{} // one for each that is running, closed when it ended
}

// runStarter starts a cluster, writes how long that took, and keeps it until told
// is done. A program that ends before is an error.
func runStarter(told context.Context, s spec) error {
	if err := os.MkdirAll(s.Logs, 0o755); err != nil {
		return err
	}
	st := &starter{spec: s, failed: make(chan error, len(s.Programs)+1), events: map[string]chan struct{}{
		afterReadyz: make(chan struct{}), afterNode: make(chan struct{}), afterPodCIDR: make(chan struct{}),
	}}
	ctx, cancel := context.WithTimeout(told, s.Patience)
	defer cancel()
	st.begun = time.Now()
	var starting sync.WaitGroup
	for _, p := range s.Programs {
		starting.Go(func() {
			if err := st.start(ctx, p); err != nil {
				st.failed <- fmt.Errorf("%s: %w", p.Name, err)
			}
		})
	}
	go func() {
		times, err := st.measure(ctx)
		if err == nil {
			err = writeResult(s.Result, times)
		}
		if err != nil {
			st.failed <- err
		}
	}()
	var err error
	select {
	case err = <-st.failed:
	case <-told.Done():
	}
	cancel()
	starting.Wait()
	if err != nil {
		err = errors.Join(err, st.others())
	}
	return errors.Join(err, st.stop())
}

// others are the failures beside the first, without those that it brought about.
func (st *starter) others() error {
	var errs []error
	for {
		select {
		case err := <-st.failed:
			if !errors.Is(err, context.Canceled) {
				errs = append(errs, err)
			}
		default:
			return errors.Join(errs...)
		}
	}
}

// start waits for what the program needs and runs it.
func (st *starter) start(ctx context.Context, p program) error {
	if err := st.await(ctx, p.After); err != nil {
		return err
	}
	out, err := os.OpenFile(filepath.Join(st.Logs, p.Name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	cmd := exec.Command(p.Args[0], p.Args[1:]...)
	cmd.Env = append(os.Environ(), p.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	st.mu.Lock()
	defer st.mu.Unlock()
	if ctx.Err() != nil {
		return errors.Join(ctx.Err(), out.Close())
	}
	if err := cmd.Start(); err != nil {
		return errors.Join(err, out.Close())
	}
	exit := make(chan struct{})
	if !p.Once {
		st.running, st.exits = append(st.running, cmd), append(st.exits, exit)
	}
	go func() {
		defer close(exit)
		err := errors.Join(cmd.Wait(), out.Close())
		if err == nil && !p.Once {
			err = errors.New("with status 0")
		}
		if err != nil {
			st.failed <- fmt.Errorf("%s ended: %w; see %s", p.Name, err, out.Name())
		}
	}()
	return nil
}

// await returns when the condition of a program holds.
func (st *starter) await(ctx context.Context, condition string) error {
	if condition == "" {
		return nil
	}
	if event, ok := st.events[condition]; ok {
		select {
		case <-event:
			return nil
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s: %w", condition, ctx.Err())
		}
	}
	network, address, _ := strings.Cut(condition, ":")
	return poll(ctx, condition, func() error {
		conn, err := net.Dial(network, address)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// measure waits for the three milestones. Each is looked for by a client of its own.
func (st *starter) measure(ctx context.Context) (bootTimes, error) {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return bootTimes{}, err
	}
	busyBefore, err := processes.Busy(fs)
	if err != nil {
		return bootTimes{}, err
	}
	var clients []*load.Client
	if err := poll(ctx, st.Kubeconfig, func() (err error) {
		clients, err = load.Clients(st.Kubeconfig, 3)
		return err
	}); err != nil {
		return bootTimes{}, err
	}
	var times bootTimes
	if err := poll(ctx, "/readyz", func() error {
		_, err := clients[0].Do(http.MethodGet, st.Readyz, nil, http.StatusOK)
		return err
	}); err != nil {
		return times, err
	}
	times.Readyz = time.Since(st.begun).Seconds()
	close(st.events[afterReadyz])
	var errs [2]error
	var wg sync.WaitGroup
	wg.Go(func() { times.Node, errs[0] = st.awaitNode(ctx, clients[1]) })
	wg.Go(func() { times.Pod, errs[1] = st.awaitPod(ctx, clients[2]) })
	wg.Wait()
	if err := errors.Join(errs[:]...); err != nil {
		return times, err
	}
	busyAfter, err := processes.Busy(fs)
	if err != nil {
		return times, err
	}
	all, err := processes.Read(fs, false)
	times.Spent = processes.Spent(all)
	times.Others = busyAfter - busyBefore - times.Spent
	return times, err
}

// awaitNode announces what becomes of the Node, and returns when it is Ready. What
// was said before this start does not count.
func (st *starter) awaitNode(ctx context.Context, c *load.Client) (float64, error) {
	announce := func(event string, happened bool) {
		select {
		case <-st.events[event]:
		default:
			if happened {
				close(st.events[event])
			}
		}
	}
	err := poll(ctx, "node "+st.Node, func() error {
		node, err := read(c, "/api/v1/nodes/"+st.Node)
		if err != nil {
			return err
		}
		announce(afterNode, true)
		announce(afterPodCIDR, node.Spec.PodCIDR != "")
		for _, condition := range node.Status.Conditions {
			if condition.Type != "Ready" {
				continue
			}
			beat, err := time.Parse(time.RFC3339, condition.LastHeartbeatTime)
			if err == nil && condition.Status == "True" && !beat.Before(st.begun.Truncate(time.Second)) {
				return nil
			}
		}
		return errors.New("it is not Ready")
	})
	return time.Since(st.begun).Seconds(), err
}

// awaitPod creates the pod as soon as the API server takes it.
func (st *starter) awaitPod(ctx context.Context, c *load.Client) (float64, error) {
	const pods = "/api/v1/namespaces/default/pods"
	if err := poll(ctx, "creating pod "+st.PodName, func() error {
		_, err := c.Do(http.MethodPost, pods, st.Pod, http.StatusCreated)
		return err
	}); err != nil {
		return 0, err
	}
	err := poll(ctx, "pod "+st.PodName, func() error {
		pod, err := read(c, pods+"/"+st.PodName)
		if err == nil && pod.Status.Phase != "Running" {
			err = fmt.Errorf("its phase is %q", pod.Status.Phase)
		}
		return err
	})
	return time.Since(st.begun).Seconds(), err
}

// stop ends the programs, the last first, and waits for each.
func (st *starter) stop() error {
	st.mu.Lock()
	defer st.mu.Unlock()
	var errs []error
	for i := len(st.running) - 1; i >= 0; i-- {
		cmd := st.running[i]
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
		timeout := time.NewTimer(stopPatience)
		select {
		case <-st.exits[i]:
		case <-timeout.C:
			errs = append(errs, fmt.Errorf("%s has not ended %s after SIGTERM", cmd.Path, stopPatience), cmd.Process.Kill())
		}
		timeout.Stop()
	}
	return errors.Join(errs...)
}

// poll calls f until it returns nil, or ctx is done.
func poll(ctx context.Context, what string, f func() error) error {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, context.Cause(ctx), err)
		}
	}
}

// writeResult makes a file appear with all that is in it.
func writeResult(path string, times bootTimes) error {
	text, err := json.Marshal(times)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path+".new", text, 0o644); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}
