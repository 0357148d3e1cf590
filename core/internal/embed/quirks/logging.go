package quirks

import (
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"slices"

	"github.com/sirupsen/logrus"
	"k8s.io/klog/v2"
)

// BridgeLogs sends what Kubernetes (klog), containerd, kine and flannel
// (logrus, klog) and the standard library's log package say to logger. All of
// them write to standard error otherwise, in formats of their own.
//
// Upstream's informational lines become debug lines: one unit state change is
// one line of ours, and several hundred of theirs.
func BridgeLogs(logger *slog.Logger, debug bool) error {
	slog.SetDefault(logger)

	quiet := slog.New(&demote{handler: logger.Handler()})
	klog.SetSlogLogger(slog.New(listen{quiet.With("source", "kubernetes").Handler()}))
	flags := flag.NewFlagSet("klog", flag.ContinueOnError)
	klog.InitFlags(flags)
	verbosity := "0"
	if debug {
		verbosity = "2"
	}
	if err := flags.Set("v", verbosity); err != nil {
		return fmt.Errorf("klog verbosity: %w", err)
	}

	std := logrus.StandardLogger()
	std.SetOutput(io.Discard)
	std.SetLevel(logrus.InfoLevel)
	if debug {
		std.SetLevel(logrus.DebugLevel)
	}
	std.ReplaceHooks(logrus.LevelHooks{})
	std.AddHook(logrusHook{quiet.With("source", "containerd")})
	return nil
}

// listen keeps the last line for CatchFatal: the message of a Fatal is but an
// informational line here, which the log does not show.
type listen struct{ slog.Handler }

func (l listen) Enabled(context.Context, slog.Level) bool { return true }

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
type demote struct{ handler slog.Handler }

func (d *demote) Enabled(ctx context.Context, level slog.Level) bool {
	return d.handler.Enabled(ctx, lowered(level))
}

func (d *demote) Handle(ctx context.Context, r slog.Record) error {
	r.Level = lowered(r.Level)
	return d.handler.Handle(ctx, r)
}

func (d *demote) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &demote{handler: d.handler.WithAttrs(attrs)}
}

func (d *demote) WithGroup(name string) slog.Handler {
	return &demote{handler: d.handler.WithGroup(name)}
}

func lowered(level slog.Level) slog.Level {
	if level >= slog.LevelError {
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
