// Package cleanup ends what a server or an agent leaves running on a machine, and
// removes what it leaves lying there. It touches only what it can tell to be cleat's: by
// the data directory and the run directory in arguments, mounts, cgroups and
// bundles, and by the record of the network plan, never by a name alone. Where
// another Kubernetes runs on the same machine, what the two would share stays.
package cleanup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// Options say what is cleaned up.
type Options struct {
	Data  paths.Data    // absolute
	Grace time.Duration // how long a server may take to stop in order
	// DryRun tells what would be done and does nothing.
	DryRun bool
	// Out gets one line for each kind of thing.
	Out io.Writer
	// Kubeconfig is the administrator's file that the server wrote, "" if none.
	Kubeconfig string
	// Node is the name of this node if its password is in a datastore that
	// outlives the data directory, else "".
	Node string
	// Program is this executable, absolute and without links, "" if that is not
	// known. An installed one is removed, with the links to it.
	Program string
}

// Killall ends the server of this machine and its pods and removes what they
// hold: processes, mounts, network, cgroups. Data stays. It goes on after an
// error; the error returned joins all of them. A second call finds nothing to do.
func Killall(ctx context.Context, o Options) error {
	j := &job{Options: o, host: machine{}}
	return j.killall(ctx)
}

// Uninstall is Killall and removes all files too. If something else cannot be
// removed, the data stays, as it tells what is cleat's; then it can be called again.
func Uninstall(ctx context.Context, o Options) error {
	j := &job{Options: o, host: machine{}}
	return j.uninstall(ctx)
}

// fewPaths is how many of a kind Targets lists.
const fewPaths = 4

// Targets lists the paths that Uninstall would delete, one line each; of many
// logs it names the first. Its error is why Uninstall would refuse.
func Targets(o Options) ([]string, error) {
	o.Out = io.Discard
	j := &job{Options: o, host: machine{}}
	if err := j.refuse(); err != nil {
		return nil, err
	}
	var lines []string
	for _, t := range j.targets() {
		if n := len(t.paths); n > fewPaths {
			lines = append(lines, fmt.Sprintf("%s and %d more (%s)", t.paths[0], n-1, t.kind))
			continue
		}
		for _, p := range t.paths {
			lines = append(lines, fmt.Sprintf("%s (%s)", p, t.kind))
		}
	}
	return lines, nil
}

// job is one call.
type job struct {
	Options
	host host
	root string // before every path, for tests; "" = the machine's own

	facts      facts
	podCgroups []string // cgroups below which there may be pods; outlives what told them
	errs       []error
}

// at is where a path of the machine is.
func (j *job) at(path string) string {
	if j.root == "" {
		return path
	}
	return filepath.Join(j.root, path)
}

func (j *job) killall(ctx context.Context) error {
	j.clear(ctx)
	return j.result()
}

// clear does what Killall does. It is false if the server or its pods may still run.
func (j *job) clear(ctx context.Context) bool {
	j.find()
	if err := j.facts.refusal; err != nil {
		j.errs = append(j.errs, err)
		return false
	}
	if err := j.endServer(ctx); err != nil {
		j.fail(j.facts.role, err)
		return false
	}
	j.find() // it may have started a pod until its end
	if err := j.facts.refusal; err != nil {
		j.errs = append(j.errs, err)
		return false
	}
	if p := j.facts.server; p.PID != 0 && !j.DryRun {
		j.fail(j.facts.role, fmt.Errorf("process %d was started meanwhile; stop what starts it, then try again", p.PID))
		return false
	}
	j.endContainers(ctx)
	if err := ctx.Err(); err != nil {
		j.fail("interrupted", fmt.Errorf("%w; try again to go on", err))
		return false
	}
	j.unmount(ctx)
	j.removeNetns(ctx)
	j.removeLinks()
	j.removeRules(ctx)
	j.removeCgroups()
	j.removeRuntimeFiles()
	return true
}

func (j *job) uninstall(ctx context.Context) error {
	if err := j.refuse(); err != nil {
		return err
	}
	j.freeNodeName(ctx)
	if j.clear(ctx) {
		j.removeFiles(ctx, j.targets()) // as the facts were when the server had ended
	}
	return j.result()
}

// refuse says why nothing may be uninstalled, and finds the facts.
func (j *job) refuse() error {
	if err := j.refuseData(); err != nil {
		return err
	}
	j.find()
	return j.facts.refusal
}

// freeNodeName lets a machine join under this one's name later on.
func (j *job) freeNodeName(ctx context.Context) {
	const kind = "node password"
	if name := j.memberName(); name != "" {
		j.tell("node", "the Node %s stays in the cluster; on a server: cleat kubectl delete node %s", name, name)
	}
	switch {
	case j.Node == "":
	case j.facts.server.PID == 0:
		j.tell(kind, "stays in the datastore, where the name %q stays taken: no server runs here to remove it", j.Node)
	default:
		j.each(kind, "remove", "removed", []string{j.Node}, func(node string) error { return j.host.FreeNodeName(ctx, node) })
	}
}

// memberName is the name of an agent's Node, which outlives the machine; "" if
// there is none.
func (j *job) memberName() string {
	if j.facts.role != roleAgent {
		return ""
	}
	leaf, err := pki.ReadLeaf(j.at(j.Data.AgentTLS("client-kubelet.crt")))
	if err != nil {
		return ""
	}
	name, ok := strings.CutPrefix(leaf.Subject.CommonName, "system:node:")
	if !ok || !isName(name) {
		return ""
	}
	return name
}

// tell writes the line of a kind.
func (j *job) tell(kind, format string, args ...any) {
	_, err := fmt.Fprintf(j.Out, "%-20s %s\n", kind, clean(fmt.Sprintf(format, args...)))
	if err != nil {
		j.fail(kind, err)
	}
}

func (j *job) fail(kind string, err error) {
	if err != nil {
		j.errs = append(j.errs, fmt.Errorf("%s: %w", kind, err))
	}
}

// result joins the errors; what was looked at twice may have failed twice.
func (j *job) result() error {
	var all []error
	said := make(map[string]bool)
	for _, err := range j.errs {
		if text := err.Error(); !said[text] {
			said[text] = true
			all = append(all, err)
		}
	}
	return errors.Join(all...)
}

// each does something to every thing of a kind and tells in one line what became
// of them. verb is as in "remove"; past as in "removed".
func (j *job) each(kind, verb, past string, things []string, act func(thing string) error) {
	if len(things) == 0 {
		j.tell(kind, "none")
		return
	}
	if j.DryRun {
		j.tell(kind, "would %s", verb)
		for _, thing := range things {
			j.tell("", "%s", thing)
		}
		return
	}
	var done []string
	for _, thing := range things {
		if err := act(thing); err != nil {
			j.fail(kind, fmt.Errorf("%s: %w", thing, err))
			continue
		}
		done = append(done, thing)
	}
	switch {
	case len(done) == len(things):
		j.tell(kind, "%s %s", past, list(done))
	case len(done) == 0:
		j.tell(kind, "not %s: %s", past, list(things))
	default:
		j.tell(kind, "%s %d of %d", past, len(done), len(things))
	}
}

// shown is how long a list may be to be printed.
const shown = 80

// list names the things if they fit into a line, else their number.
func list(things []string) string {
	if line := strings.Join(things, ", "); len(line) <= shown {
		return line
	}
	return strconv.Itoa(len(things))
}

// clean makes names from outside harmless to a terminal.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
