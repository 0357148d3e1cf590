// Package logging makes the one logger of a process and the small bridges by
// which code that knows nothing of log/slog writes into it.
package logging

import (
	"io"
	"log"
	"log/slog"
	"os"

	"github.com/lmittmann/tint"
	"golang.org/x/term"
)

// The formats New knows; they are the values of --log-format.
const (
	FormatAuto = "auto" // text on a terminal, JSON anywhere else
	FormatText = "text"
	FormatJSON = "json"
)

// clock is the time of a text line. A terminal is watched today, so the date
// would only push the message to the right; JSON lines carry the full time.
const clock = "15:04:05.000"

// New returns a logger that writes to w. Any format other than FormatText and
// FormatJSON is FormatAuto; config.Validate has refused unknown ones. Colours
// are used only on a terminal and never when NO_COLOR is set.
func New(w io.Writer, format string, debug bool) *slog.Logger {
	level := slog.LevelInfo
	if debug {
		level = slog.LevelDebug
	}
	terminal := isTerminal(w)
	if format == FormatText || format != FormatJSON && terminal {
		return slog.New(tint.NewTextHandler(w, &tint.Options{
			Level:       level,
			TimeFormat:  clock,
			NoColor:     !terminal || os.Getenv("NO_COLOR") != "",
			ReplaceAttr: redact,
		}))
	}
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{Level: level, ReplaceAttr: inJSON}))
}

// inJSON writes durations as people do, 1.5s; slog would write nanoseconds.
func inJSON(groups []string, a slog.Attr) slog.Attr {
	a = redact(groups, a)
	if a.Value.Kind() == slog.KindDuration {
		return slog.String(a.Key, a.Value.Duration().String())
	}
	return a
}

// Std returns a logger of the standard log package that writes each of its
// lines to l at the given level, for an http.Server's ErrorLog and the like.
func Std(l *slog.Logger, level slog.Level) *log.Logger {
	return slog.NewLogLogger(l.Handler(), level)
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(interface{ Fd() uintptr })
	return ok && term.IsTerminal(int(f.Fd()))
}
