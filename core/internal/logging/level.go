package logging

import (
	"context"
	"log/slog"
)

// AtLeast returns a handler that drops records below floor and leaves the rest
// to h, for a library that says at info level what only its authors read.
func AtLeast(h slog.Handler, floor slog.Leveler) slog.Handler {
	return atLeast{h, floor}
}

type atLeast struct {
	slog.Handler
	floor slog.Leveler
}

func (h atLeast) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= h.floor.Level() && h.Handler.Enabled(ctx, level)
}

// Handle checks the level again: bridges from other log libraries call it
// without asking Enabled.
func (h atLeast) Handle(ctx context.Context, r slog.Record) error {
	if r.Level < h.floor.Level() {
		return nil
	}
	return h.Handler.Handle(ctx, r)
}

func (h atLeast) WithAttrs(attrs []slog.Attr) slog.Handler {
	return atLeast{h.Handler.WithAttrs(attrs), h.floor}
}

func (h atLeast) WithGroup(name string) slog.Handler {
	return atLeast{h.Handler.WithGroup(name), h.floor}
}
