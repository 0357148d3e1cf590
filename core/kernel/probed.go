package kernel

import (
	"context"
	"time"
)

// RunProbed is the Run of a component that wraps a program with a health
// answer: it runs run and, beside it, polls probe with a pause of every
// between calls; it calls ready when probe succeeds and returns what run
// returns, after the probe has ended too.
func RunProbed(ctx context.Context, ready func(), run func(ctx context.Context) error, every time.Duration, probe func(ctx context.Context) error) error {
	probing, stop := context.WithCancel(ctx)
	probed := make(chan struct{})
	go func() {
		defer close(probed)
		if Poll(probing, every, probe) == nil {
			ready()
		}
	}()
	err := run(ctx)
	stop()
	<-probed
	return err
}
