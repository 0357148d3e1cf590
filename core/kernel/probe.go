package kernel

import (
	"context"
	"fmt"
	"time"
)

type unitKey struct{}

func withUnit(ctx context.Context, u *Unit) context.Context {
	return context.WithValue(ctx, unitKey{}, u)
}

// Report says what the unit of ctx is doing, such as "importing coredns.tar". It
// is shown in Status and, if the unit stalls, in the log. It does nothing
// with a context that did not come from a kernel.
func Report(ctx context.Context, format string, args ...any) {
	u, ok := ctx.Value(unitKey{}).(*Unit)
	if !ok {
		return
	}
	text := fmt.Sprintf(format, args...)
	u.kernel.mu.Lock()
	defer u.kernel.mu.Unlock()
	u.progress = text
}

// Waiting says why the unit of ctx is not ready yet, usually with the error of a
// probe; nil takes it back. Like Report it is for people, and does
// nothing with a context that did not come from a kernel.
func Waiting(ctx context.Context, err error) {
	u, ok := ctx.Value(unitKey{}).(*Unit)
	if !ok {
		return
	}
	var text string
	if err != nil {
		text = err.Error()
	}
	u.kernel.mu.Lock()
	defer u.kernel.mu.Unlock()
	u.probeError = text
}

// Poll calls probe, at once and then with a pause of every between calls, until
// it returns nil. The last error is kept with Waiting. When ctx ends first, Poll
// returns an error that wraps ctx.Err() and the probe's last error.
func Poll(ctx context.Context, every time.Duration, probe func(ctx context.Context) error) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var last error
	for {
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		if ctx.Err() != nil {
			if last == nil {
				return ctx.Err()
			}
			return fmt.Errorf("%w; last probe: %w", ctx.Err(), last)
		}
		err := probe(ctx)
		if err == nil {
			Waiting(ctx, nil)
			return nil
		}
		if ctx.Err() == nil { // else the error is only ctx's end, which says less
			last = err
			Waiting(ctx, err)
		}
		timer.Reset(every)
	}
}
