package cleanup

import (
	"context"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// killPatience is how long the kernel may take to end what was killed.
const killPatience = 15 * time.Second

// endServer stops the server or agent in order, else by force.
func (j *job) endServer(ctx context.Context) error {
	p := j.facts.server
	if j.DryRun {
		if p.PID == 0 {
			j.tell(j.facts.role, "none runs")
		} else {
			j.tell(j.facts.role, "would end process %d", p.PID)
		}
		return nil
	}
	// Asked even when no server runs: the service manager may be about to start
	// one again.
	how, err := j.stopService(ctx, p)
	j.fail("service", err)
	if p.PID == 0 {
		j.tell(j.facts.role, "none runs")
		return nil
	}
	if how == "" {
		how, err = "stopped in order", j.host.Signal(p, syscall.SIGTERM)
		j.fail(j.facts.role, err)
	}
	left, err := j.host.Await(ctx, []process{p}, j.Grace)
	if err == nil && len(left) > 0 {
		how = fmt.Sprintf("killed: it had not stopped after %s", j.Grace)
		if err = j.host.Signal(p, syscall.SIGKILL); err == nil {
			left, err = j.host.Await(ctx, []process{p}, killPatience)
		}
	}
	if err == nil && len(left) > 0 {
		err = fmt.Errorf("still there %s after it was killed", killPatience)
	}
	if err != nil {
		return fmt.Errorf("process %d: %w; nothing else was touched", p.PID, err)
	}
	j.tell(j.facts.role, "process %d %s", p.PID, how)
	return nil
}

// endContainers kills all shims and containers of our containerd, and all else
// that runs from the data directory. Killing goes on until none is left, since
// what is not dead yet may start more.
func (j *job) endContainers(ctx context.Context) {
	const kind = "containers"
	victims := j.victims()
	if len(victims) == 0 {
		j.tell(kind, "none run")
		return
	}
	if j.DryRun {
		j.tell(kind, "would kill %d processes of %d containers", len(victims), len(j.facts.containers))
		return
	}
	killed := make(map[[2]uint64]bool) // by number and start
	deadline := time.Now().Add(killPatience)
	for len(victims) > 0 && time.Now().Before(deadline) && ctx.Err() == nil {
		for _, p := range victims {
			j.fail(kind, j.host.Signal(p, syscall.SIGKILL))
			killed[[2]uint64{uint64(p.PID), p.Start}] = true
		}
		if _, err := j.host.Await(ctx, victims, time.Until(deadline)); err != nil {
			j.fail(kind, err)
			break
		}
		all, err := j.host.Processes()
		if err != nil {
			j.fail(kind, err)
			break
		}
		j.facts.processes = all
		victims = j.victims()
	}
	for _, p := range victims {
		j.fail(kind, fmt.Errorf("process %d: still there after it was killed; see /proc/%[1]d/stack", p.PID))
	}
	j.tell(kind, "killed %d processes of %d containers", len(killed)-len(victims), len(j.facts.containers))
}

// victims are the processes of containers, shims first.
func (j *job) victims() []process {
	var out []process
	taken := make(map[int]bool)
	take := func(p process) {
		if !taken[p.PID] && p.PID > 1 && p.PID != j.facts.server.PID {
			taken[p.PID] = true
			out = append(out, p)
		}
	}
	for _, p := range j.facts.processes {
		if j.isShimOrRunc(p) {
			take(p)
		}
	}
	// A shim adopts what its containers leave, so all of them are below it.
	for i := 0; i < len(out); i++ {
		for _, p := range j.facts.processes {
			if p.PPID == out[i].PID {
				take(p)
			}
		}
	}
	// Those whose shim is dead are still in their cgroup.
	var names []string
	for _, c := range j.facts.containers {
		if c.cgroup != "" {
			names = append(names, c.cgroup)
		}
	}
	var members []int
	for _, dir := range j.inHierarchies(names) {
		some, err := j.host.Members(dir)
		j.fail("containers", err)
		members = append(members, some...)
	}
	for _, p := range j.facts.processes {
		if slices.Contains(members, p.PID) {
			take(p)
		}
	}
	return out
}

// isShimOrRunc: what containerd starts for our containers, told by the program,
// which was unpacked into the data directory, or by the socket it belongs to.
func (j *job) isShimOrRunc(p process) bool {
	return p.SameMount && (below(p.Exe, j.real(j.Data.Payload())) || servedBy(p) == paths.CRISocket)
}

// servedBy is the socket of the containerd that a shim belongs to, "" for any
// other process.
func servedBy(p process) string {
	i := slices.Index(p.Args, "-address")
	if i < 0 || i+1 == len(p.Args) || !slices.Contains(p.Args, "-namespace") {
		return ""
	}
	return normal(p.Args[i+1])
}
