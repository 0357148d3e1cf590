package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/tetratelabs/wazero/sys"
)

// FaultKind says in which way a plugin did not do its work.
type FaultKind string

// The kinds of faults.
const (
	FaultTrap    FaultKind = "trap"    // the guest crashed
	FaultTimeout FaultKind = "timeout" // the guest ran into its deadline
	FaultError   FaultKind = "error"   // the hook returned an error number
	FaultOutput  FaultKind = "output"  // the hook's answer is malformed or not allowed
	FaultStart   FaultKind = "start"   // no instance could be started
	FaultBusy    FaultKind = "busy"    // every instance stayed at work
	FaultOpen    FaultKind = "open"    // the circuit breaker keeps the plugin out
	FaultMatch   FaultKind = "match"   // a match condition could not be evaluated
	FaultState   FaultKind = "state"   // its state could not be stored
)

// Fault is the error of a plugin that did not do its work. It is never a
// verdict of the plugin.
type Fault struct {
	Plugin string
	Hook   string // the guest export, "" when none was entered
	Kind   FaultKind
	Detail string // what happened, in one line
	Advice string // what an operator can do
	Err    error
}

func (f *Fault) Error() string { return "plugin " + f.Plugin + ": " + f.describe() }

// describe is the error without the plugin's name, for a place that has it
// already.
func (f *Fault) describe() string {
	text := f.Detail
	if f.Hook != "" {
		text = f.Hook + ": " + text
	}
	if f.Advice != "" {
		text += "; " + f.Advice
	}
	return text
}

func (f *Fault) Unwrap() error { return f.Err }

// faultOf explains why a call of the guest failed. When the caller's own
// context ended, that is no fault of the plugin and the context's error is
// returned instead.
func (p *plugin) faultOf(ctx context.Context, hook string, err error, lastWords string) error {
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("plugin %s: %s: %w", p.locked.Name, hook, cause)
	}
	f := &Fault{Plugin: p.locked.Name, Hook: hook, Err: err}
	var exit *sys.ExitError
	switch {
	case errors.As(err, &exit) && exit.ExitCode() == sys.ExitCodeDeadlineExceeded:
		f.Kind = FaultTimeout
		f.Detail = fmt.Sprintf("did not finish within its deadline of %s", p.deadline)
		f.Advice = "raise limits.deadline_ms in plugins.lock if the machine is slow, or remove the plugin"
		p.stats.timeouts.Add(1)
	case errors.As(err, &exit):
		f.Kind = FaultTrap
		f.Detail = fmt.Sprintf("the guest ended itself with code %d", exit.ExitCode())
		f.Advice = "this is a bug in the plugin; report it to its author"
		p.stats.traps.Add(1)
	default:
		f.Kind = FaultTrap
		f.Detail = "the guest crashed: " + firstLine(err.Error())
		f.Advice = "this is a bug in the plugin or it ran out of memory (limits.memory_pages in plugins.lock)"
		p.stats.traps.Add(1)
	}
	if lastWords != "" {
		f.Detail += "; it last wrote: " + lastWords
	}
	p.log.Debug("plugin call failed", "hook", hook, "error", err)
	return f
}

func firstLine(s string) string {
	line, _, _ := strings.Cut(strings.TrimSpace(s), "\n")
	return cut(line, 300)
}

// cut shortens s to at most n bytes, at a character boundary.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "")
}

// errnoText names what an error number means.
func errnoText(e int32) string {
	return fmt.Sprintf("returned %d, %v", e, hostabi.Errno(e))
}
