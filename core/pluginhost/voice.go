package pluginhost

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// What a plugin may write to the log over time, on all of its instances.
const (
	voiceBurst = 64 << 10 // bytes
	voiceRate  = 16 << 10 // bytes a second
	voiceLine  = 128      // what a line costs beside its text
	// Who used it up is silent until so much is there again, so that the notes
	// about dropped lines do not become the flood.
	voiceBack = voiceBurst / 4
)

// voice is what a plugin may still write to the log. It belongs to the plugin,
// is shared by its instances, and looks only at lines that the guest wrote: what
// the host says about a plugin is always logged.
type voice struct {
	now func() time.Time

	mu      sync.Mutex
	left    int // bytes
	since   time.Time
	silent  bool
	dropped int // lines, while silent
}

func newVoice(now func() time.Time) *voice {
	return &voice{now: now, left: voiceBurst, since: now()}
}

// spend takes a line of n bytes from the budget. It reports whether the line may
// be logged, whether it is the first one dropped, and how many were dropped
// before one that may.
func (v *voice) spend(n int) (ok, first bool, dropped int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	now := v.now()
	// In whole milliseconds; what is over stays for the next time.
	if passed := now.Sub(v.since).Milliseconds(); passed > 0 {
		v.left = int(min(voiceBurst, int64(v.left)+min(passed, time.Minute.Milliseconds())*voiceRate/1000))
		v.since = v.since.Add(time.Duration(passed) * time.Millisecond)
	} else if passed < 0 {
		v.since = now // the clock was set back
	}
	n += voiceLine
	if v.silent && v.left >= max(voiceBack, n) {
		v.silent, dropped, v.dropped = false, v.dropped, 0
	}
	if v.silent || v.left < n {
		first, v.silent = !v.silent, true
		v.dropped++
		return false, first, 0
	}
	v.left -= n
	return true, false, dropped
}

// guestLine is the context of a line that a guest wrote.
type guestLine struct{ context.Context }

// fromGuest marks what is logged with it as a line of the guest.
func fromGuest() context.Context { return guestLine{context.Background()} }

// voiced is a handler that holds the lines of a guest to its voice and lets
// those of the host through.
type voiced struct {
	slog.Handler
	voice *voice
}

// newVoiced returns a logger for what a plugin, and the host about it, writes.
func newVoiced(log *slog.Logger, now func() time.Time) *slog.Logger {
	return slog.New(&voiced{log.Handler(), newVoice(now)})
}

// Handle implements slog.Handler.
func (h *voiced) Handle(ctx context.Context, r slog.Record) error {
	if _, ok := ctx.(guestLine); !ok {
		return h.Handler.Handle(ctx, r)
	}
	ok, first, dropped := h.voice.spend(len(r.Message))
	if first {
		return h.note(ctx, r.Time, "plugin logs too much over time, its lines are dropped until it is quieter",
			slog.Int("bytes_per_second", voiceRate))
	}
	if !ok {
		return nil
	}
	if dropped > 0 {
		if err := h.note(ctx, r.Time, "lines of the plugin were dropped", slog.Int("lines", dropped)); err != nil {
			return err
		}
	}
	return h.Handler.Handle(ctx, r)
}

func (h *voiced) note(ctx context.Context, at time.Time, text string, attr slog.Attr) error {
	r := slog.NewRecord(at, slog.LevelWarn, text, 0)
	r.AddAttrs(attr)
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h *voiced) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &voiced{h.Handler.WithAttrs(attrs), h.voice}
}

// WithGroup implements slog.Handler.
func (h *voiced) WithGroup(name string) slog.Handler {
	return &voiced{h.Handler.WithGroup(name), h.voice}
}
