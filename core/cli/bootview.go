package cli

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/logging"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

const (
	// bootEvery is the pause between two looks at a server that boots.
	bootEvery = 500 * time.Millisecond
	// slowAfter is when a unit that starts is marked: none takes so long that is well.
	slowAfter = 30 * time.Second
)

// Marks of a unit in the view, the first letter of its line.
const (
	markWaiting  = '-'
	markStarting = '>'
	markTrouble  = '!'
)

// bootView is the log's writer on a terminal: below the last line of the log it
// keeps a few lines about what the boot waits for. A write goes out as a whole, so
// that neither tears the other.
type bootView struct {
	out interface {
		io.Writer
		Fd() uintptr
	}

	mu     sync.Mutex
	buffer bytes.Buffer // what the next write will be
	screen screen
	lines  []string // of the view; nil shows none
	midway bool     // the log's last line has not ended
}

// newBootView returns a view on a terminal, nil where the log is for programs or
// was asked for as it is, or the terminal can only write.
func newBootView(out io.Writer, o *config.Options, environ []string) *bootView {
	f, ok := out.(interface {
		io.Writer
		Fd() uintptr
	})
	size, terminal := terminalSize(out)
	if !ok || !terminal || o.LogFormat != logging.FormatAuto || slices.Contains(environ, "TERM=dumb") {
		return nil
	}
	v := &bootView{out: f}
	v.screen = screen{w: &v.buffer, size: func() (columns, rows int) {
		columns, rows = size()
		return columns, max(rows/2, 1) // the log needs room too
	}, below: true}
	if !slices.ContainsFunc(environ, func(kv string) bool { return strings.HasPrefix(kv, "NO_COLOR=") && kv != "NO_COLOR=" }) {
		v.screen.paint = paintUnit
	}
	return v
}

// Fd makes the log take the view for the terminal that it writes to.
func (v *bootView) Fd() uintptr { return v.out.Fd() }

// Write writes a piece of the log, above the view.
func (v *bootView) Write(p []byte) (int, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	_ = v.screen.erase() // it writes to memory
	v.buffer.Write(p)
	v.midway = p[len(p)-1] != '\n'
	if err := v.flush(); err != nil {
		return 0, err
	}
	return len(p), nil
}

// show replaces the lines of the view.
func (v *bootView) show(lines []string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines = lines
	return v.flush()
}

// end removes the view and leaves lines in its place.
func (v *bootView) end(lines ...string) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.lines = nil
	_ = v.screen.erase()
	for _, line := range lines {
		v.buffer.WriteString(line + "\n")
	}
	return v.flush()
}

// flush adds the view to what was written and sends all of it; the lock is held.
func (v *bootView) flush() error {
	if v.lines != nil && !v.midway {
		_ = v.screen.draw(v.lines)
	}
	defer v.buffer.Reset()
	_, err := v.out.Write(v.buffer.Bytes())
	return err
}

// showBoot keeps the view until the server is ready, stops or ctx is done. stop
// waits until it is gone.
func (a *app) showBoot(ctx context.Context, v *bootView) (stop func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	begun := a.now().Round(0)
	go func() {
		defer close(done)
		// What cannot be drawn is in the log.
		_ = v.end(a.followBoot(ctx, v, begun)...)
	}()
	return func() {
		cancel()
		<-done
	}
}

// followBoot shows the server until it boots no more, and returns what is left to
// say of it.
func (a *app) followBoot(ctx context.Context, v *bootView, begun time.Time) (last []string) {
	tick := time.NewTicker(a.bootEvery)
	defer tick.Stop()
	for {
		s, err := a.bootStatus(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil || s.StartedAt.Before(begun):
			// It does not answer yet, or that is one from before, which keeps this one from starting.
		case s.State == serverstatus.StateStarting:
			if err := v.show(bootLines(s)); err != nil {
				return nil
			}
		case s.State == serverstatus.StateStopping:
			return nil
		default:
			return bootSummary(s)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// bootLines are a line about the boot as a whole and one for each unit that is not
// ready: those in trouble first, then those that start, then those that wait.
func bootLines(s serverstatus.Status) []string {
	type row struct {
		mark       rune
		name, text string
	}
	var rows []row
	width := 0
	for _, u := range s.Units {
		name := display.Cell(u.Unit)
		r := row{name: name}
		took := s.ObservedAt.Sub(u.Since)
		switch {
		case u.State == kernel.StateReady:
			continue
		case u.State == kernel.StateWaiting:
			// Before every unit has prepared itself, Progress says what one does.
			r.mark, r.text = markWaiting, cmp.Or(detail(u), strings.TrimSuffix("waits for "+strings.Join(u.WaitingFor, ", "), " for "))
		case u.State == kernel.StateStarting && took < slowAfter:
			r.mark, r.text = markStarting, strings.TrimSpace(bootTime(took)+"  "+detail(u))
		case u.State == kernel.StateStarting:
			r.mark, r.text = markTrouble, strings.TrimSpace("starts for "+bootTime(took)+" already  "+detail(u))
		default:
			r.mark, r.text = markTrouble, strings.TrimSpace(string(u.State)+"  "+detail(u))
		}
		r.text = display.Cell(r.text)
		width = max(width, len([]rune(name)))
		rows = append(rows, r)
	}
	order := string([]rune{markTrouble, markStarting, markWaiting})
	slices.SortStableFunc(rows, func(a, b row) int {
		return strings.IndexRune(order, a.mark) - strings.IndexRune(order, b.mark)
	})
	lines := []string{fmt.Sprintf("booting for %s, %d of %d units are ready", bootTime(s.ObservedAt.Sub(s.StartedAt)), len(s.Units)-len(rows), len(s.Units))}
	for _, r := range rows {
		lines = append(lines, fmt.Sprintf("%c %-*s  %s", r.mark, width, r.name, r.text))
	}
	return lines
}

// bootSummary is one line, with the units that took longest.
func bootSummary(s serverstatus.Status) []string {
	units := slices.DeleteFunc(slices.Clone(s.Units), func(u serverstatus.Unit) bool { return u.ReadyAfterMS == nil || u.StartedAfterMS == nil })
	if len(units) == 0 {
		return nil
	}
	var all int64
	for _, u := range units {
		all = max(all, *u.StartedAfterMS+*u.ReadyAfterMS)
	}
	slices.SortStableFunc(units, func(a, b serverstatus.Unit) int { return cmp.Compare(*b.ReadyAfterMS, *a.ReadyAfterMS) })
	var slowest []string
	for _, u := range units[:min(3, len(units))] {
		slowest = append(slowest, display.Cell(u.Unit)+" "+bootTime(time.Duration(*u.ReadyAfterMS)*time.Millisecond))
	}
	return []string{fmt.Sprintf("%d units were ready after %s; the longest took %s",
		len(units), bootTime(time.Duration(all)*time.Millisecond), strings.Join(slowest, ", "))}
}

// bootTime is a time in tenths of a second.
func bootTime(d time.Duration) string { return fmt.Sprintf("%.1fs", max(d, 0).Seconds()) }

// paintUnit colours the line of a unit by its mark.
func paintUnit(line string) string {
	const reset = "\x1b[0m"
	switch {
	case line == "":
		return line
	case line[0] == markTrouble:
		return "\x1b[1;31m" + line + reset
	case line[0] == markStarting:
		return "\x1b[36m" + line + reset
	case line[0] == markWaiting:
		return "\x1b[2m" + line + reset
	}
	return line
}
