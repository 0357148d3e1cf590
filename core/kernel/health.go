package kernel

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// watchHealth calls the component's Check, if it has one, from when the unit is
// ready until ctx ends.
func (u *Unit) watchHealth(ctx context.Context) error {
	c, ok := u.component.(Checker)
	if !ok {
		return nil
	}
	select {
	case <-u.ready:
	case <-ctx.Done():
		return nil
	}
	interval := u.kernel.opts.CheckInterval
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	for {
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return nil
		}
		err := checkOnce(ctx, c, interval)
		if ctx.Err() != nil {
			return nil
		}
		u.setHealth(err)
	}
}

func checkOnce(ctx context.Context, c Checker, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := guard(func() error { return c.Check(ctx) })
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() != nil {
		return fmt.Errorf("check took longer than %s: %w", limit, err)
	}
	return err
}

// setHealth records the result of a Check. Only the first of several equal
// results is a state change; a new reason replaces the old one quietly.
func (u *Unit) setHealth(err error) {
	k := u.kernel
	k.mu.Lock()
	state := u.state
	if state == StateUnhealthy && err != nil {
		u.err = err
	}
	k.mu.Unlock()
	switch {
	case state == StateReady && err != nil:
		u.change(StateUnhealthy, err)
	case state == StateUnhealthy && err == nil:
		u.change(StateReady, nil)
	}
}
