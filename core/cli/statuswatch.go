package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"golang.org/x/term"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

// watchEvery is the pause between two looks at a server.
const watchEvery = time.Second

// watchStatus follows a server until ctx is done or the server has gone, which
// is an error. Not to find one in the first place is the error it always is.
func (a *app) watchStatus(ctx context.Context, w io.Writer, socket, output string) error {
	show := a.showLines(w)
	if size, ok := terminalSize(w); ok && output == outputTable {
		screen := &screen{w: w, size: size}
		show = func(_ []byte, s serverstatus.Status) error { return screen.draw(statusTable(s, a.now())) }
	} else if output != outputTable {
		show = showDocuments(w, output)
	}
	tick := time.NewTicker(a.watchEvery)
	defer tick.Stop()
	for first := true; ; first = false {
		raw, status, err := askStatus(ctx, socket)
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			if !first {
				var h hinted
				if errors.As(err, &h) {
					err = h.error // the advice is for who never saw it run
				}
				err = fmt.Errorf("the server has gone: %w", err)
			}
			return err
		}
		if err := show(raw, status); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// terminalSize returns how to ask for the columns and rows of w, if it is a
// terminal.
func terminalSize(w io.Writer) (size func() (columns, rows int), ok bool) {
	f, ok := w.(interface{ Fd() uintptr })
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return nil, false
	}
	return func() (int, int) {
		columns, rows, err := term.GetSize(int(f.Fd()))
		if err != nil || columns <= 0 || rows <= 0 { // a terminal on a serial line may not know
			return 80, 24
		}
		return columns, rows
	}, true
}

// screen draws lines over those of the time before and writes only what differs.
type screen struct {
	w             io.Writer
	size          func() (columns, rows int)
	paint         func(line string) string // what is written for a line that fits; nil changes nothing
	below         bool                     // above it is text of others, which stays
	drawn         []string
	columns, rows int // then
}

const (
	clearLine  = "\x1b[2K"
	clearBelow = "\x1b[J"
)

func (s *screen) draw(lines []string) error {
	columns, rows := s.size()
	lines = fit(lines, columns, rows)
	var out bytes.Buffer
	if columns != s.columns || rows != s.rows {
		if s.drawn != nil && !s.below {
			out.WriteString("\x1b[H" + clearBelow) // the terminal has wrapped what was there
		}
		s.drawn, s.columns, s.rows = nil, columns, rows
	}
	if len(s.drawn) > 0 {
		fmt.Fprintf(&out, "\x1b[%dA", len(s.drawn))
	}
	for i, line := range lines {
		if i >= len(s.drawn) || s.drawn[i] != line {
			shown := line
			if s.paint != nil {
				shown = s.paint(line)
			}
			out.WriteString(clearLine + shown)
		}
		out.WriteString("\r\n")
	}
	if len(lines) < len(s.drawn) {
		out.WriteString(clearBelow)
	}
	s.drawn = lines
	_, err := s.w.Write(out.Bytes())
	return err
}

// erase removes what was drawn.
func (s *screen) erase() error {
	if len(s.drawn) == 0 {
		return nil
	}
	_, err := fmt.Fprintf(s.w, "\x1b[%dA"+clearBelow, len(s.drawn))
	s.drawn = nil
	return err
}

// fit cuts lines to a terminal, on which none may wrap and the cursor needs a
// row of its own.
func fit(lines []string, columns, rows int) []string {
	out := slices.Clone(lines)
	if room := max(rows-1, 1); len(out) > room {
		left := len(out) - room + 1
		out = append(out[:room-1], fmt.Sprintf("… %d more lines; enlarge the window", left))
	}
	for i, line := range out {
		if letters := []rune(line); len(letters) > columns {
			out[i] = string(letters[:columns])
		}
	}
	return out
}

// change is a thing that is watched, and how it is.
type change struct{ what, how string }

// changes lists what a line is written for: states, and the errors behind them,
// but no counters.
func changes(s serverstatus.Status) []change {
	var out []change
	add := func(kind, name, state string, more ...string) {
		parts := []string{display.Cell(state)}
		for _, m := range more {
			if m != "" {
				parts = append(parts, display.Cell(m))
			}
		}
		out = append(out, change{kind + " " + display.Cell(name), strings.Join(parts, ": ")})
	}
	for _, u := range s.Units {
		waiting := ""
		if len(u.WaitingFor) > 0 {
			waiting = "for " + strings.Join(u.WaitingFor, ", ")
		}
		add("unit", u.Unit, string(u.State), waiting, detail(u))
	}
	for _, p := range s.Plugins {
		name := p.Name
		if p.State == serverstatus.PluginShadow {
			name += " (shadow)"
		}
		add("plugin", name, string(p.State), p.Version)
	}
	for _, a := range s.Addons {
		add("addon", a.Name, string(a.State), a.Error)
	}
	for _, c := range s.Certificates {
		add("certificate", c.File, string(c.State), c.Error)
	}
	if s.Node != "" {
		add("server", s.Node, string(s.State))
	}
	return out
}

// differ returns what of now was not so before, and what has gone since.
func differ(before, now []change) []change {
	var out []change
	for _, c := range now {
		if !slices.Contains(before, c) {
			out = append(out, c)
		}
	}
	for _, b := range before {
		if !slices.ContainsFunc(now, func(c change) bool { return c.what == b.what }) {
			out = append(out, change{b.what, "gone"})
		}
	}
	return out
}

// showLines writes a line for each thing at first, and then for each change.
func (a *app) showLines(w io.Writer) func([]byte, serverstatus.Status) error {
	var before []change
	return func(_ []byte, s serverstatus.Status) error {
		now := changes(s)
		for _, c := range differ(before, now) {
			if err := fprint(w, "%s %s %s\n", a.now().Format(time.TimeOnly), c.what, c.how); err != nil {
				return err
			}
		}
		before = now
		return nil
	}
}

// showDocuments writes the whole status whenever something has changed: a line
// of JSON, or a YAML document.
func showDocuments(w io.Writer, output string) func([]byte, serverstatus.Status) error {
	var before []change
	return func(raw []byte, s serverstatus.Status) error {
		now := changes(s)
		if before != nil && len(differ(before, now)) == 0 {
			return nil
		}
		before = append([]change{}, now...)
		if output == outputYAML {
			if err := fprint(w, "---\n"); err != nil {
				return err
			}
			return printYAML(w, raw)
		}
		var out bytes.Buffer
		if err := json.Compact(&out, raw); err != nil {
			return err
		}
		return fprint(w, "%s\n", out.String())
	}
}
