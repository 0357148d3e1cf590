package quirks

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"
	"strconv"

	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

// LogOptions say how much of upstream's log is wanted.
type LogOptions struct {
	Debug     bool
	Verbosity int // klog's
}

// BridgeLogs sends what Kubernetes (klog), containerd, kine and flannel
// (logrus, klog) and the standard library's log package say to logger. All of
// them write to standard error otherwise, in formats of their own.
//
// Upstream's informational lines become debug lines: one unit state change is
// one line of ours, and several hundred of theirs. An operator who asks for
// Kubernetes' lines by a verbosity sees them.
func BridgeLogs(logger *slog.Logger, o LogOptions) error {
	slog.SetDefault(logger)

	quiet := slog.New(&demote{handler: logger.Handler()})
	kubernetes := quiet
	if o.Verbosity > 0 {
		kubernetes = slog.New(&demote{handler: logger.Handler(), verbosity: o.Verbosity})
	}
	klog.SetSlogLogger(slog.New(listen{kubernetes.With("source", "kubernetes").Handler()}))
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	verbosity := o.Verbosity
	if o.Debug {
		verbosity = max(verbosity, 2)
	}
	if err := flags.Set("v", strconv.Itoa(verbosity)); err != nil {
		return fmt.Errorf("--v: %w", err)
	}

	std := logrus.StandardLogger()
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.InfoLevel)
	if o.Debug {
		std.SetLevel(logrus.DebugLevel)
	}
	std.ReplaceHooks(logrus.LevelHooks{})
	std.AddHook(logrusHook{quiet.With("source", "containerd")})
	return nil
}

// listen keeps the last line for CatchFatal: the message of a Fatal is but an
// informational line here, which the log does not show.
type listen struct{ slog.Handler }

func (l listen) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo || l.Handler.Enabled(ctx, level) // below it there is nothing fatal, and much of it
}

func (l listen) Handle(ctx context.Context, r slog.Record) error {
	line := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "err" {
			line += ": " + a.Value.String()
		}
		return true
	})
	lastLine.Store(&line)
	if !l.Handler.Enabled(ctx, r.Level) {
		return nil
	}
	return l.Handler.Handle(ctx, r)
}

func (l listen) WithAttrs(attrs []slog.Attr) slog.Handler { return listen{l.Handler.WithAttrs(attrs)} }

func (l listen) WithGroup(name string) slog.Handler { return listen{l.Handler.WithGroup(name)} }

// demote lowers every record: errors become info lines, all else debug lines.
// Upstream warns of what is normal while a cluster starts, and its errors are
// retries; when a component gives up, its unit fails, and that is our error.
type demote struct {
	handler slog.Handler
	// verbosity, if not 0: informational lines up to it were asked for, and stay
	// what they are. A line of verbosity n comes with the level -n.
	verbosity int
}

func (d *demote) Enabled(ctx context.Context, level slog.Level) bool {
	return d.handler.Enabled(ctx, d.lowered(level))
}

func (d *demote) Handle(ctx context.Context, r slog.Record) error {
	r.Level = d.lowered(r.Level)
	return d.handler.Handle(ctx, r)
}

func (d *demote) with(h slog.Handler) slog.Handler {
	return &demote{handler: h, verbosity: d.verbosity}
}

func (d *demote) WithAttrs(attrs []slog.Attr) slog.Handler { return d.with(d.handler.WithAttrs(attrs)) }
func (d *demote) WithGroup(name string) slog.Handler       { return d.with(d.handler.WithGroup(name)) }

func (d *demote) lowered(level slog.Level) slog.Level {
	if level >= slog.LevelError || d.verbosity > 0 && level >= slog.Level(-d.verbosity) {
		return slog.LevelInfo
	}
	return min(level, slog.LevelDebug)
}

// logrusHook hands logrus entries to slog.
type logrusHook struct{ logger *slog.Logger }

func (h logrusHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h logrusHook) Fire(e *logrus.Entry) error {
	hearKine(e.Message)
	level := slog.LevelDebug
	switch e.Level {
	case logrus.PanicLevel, logrus.FatalLevel, logrus.ErrorLevel:
		level = slog.LevelError
	case logrus.WarnLevel:
		level = slog.LevelWarn
	case logrus.InfoLevel:
		level = slog.LevelInfo
	}
	attrs := make([]slog.Attr, 0, len(e.Data))
	for _, key := range slices.Sorted(maps.Keys(e.Data)) {
		attrs = append(attrs, slog.Any(key, e.Data[key]))
	}
	h.logger.LogAttrs(context.Background(), level, e.Message, attrs...)
	return nil
}
