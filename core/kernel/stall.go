package kernel

import (
	"context"
	"log/slog"
	"strings"
	"time"
)

// maxStallPause is the longest pause between two reports on one unit, in StallAfters.
const maxStallPause = 30

// watchStalls writes a line for every unit that waits, starts or stops for longer
// than StallAfter, again after twice that time, four times, and so on.
func (k *Kernel) watchStalls(ctx context.Context) {
	timer := time.NewTimer(k.opts.StallAfter)
	defer timer.Stop()
	for {
		select {
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		stalled, next := k.stalled(time.Now())
		timer.Reset(next)
		k.reportWaits(stalled)
		for _, s := range stalled {
			if !waitsForOthers(s) {
				k.reportStall(s)
			}
		}
	}
}

// stalled returns the units that are due for a report and how long until the
// next may be. A unit that changes state meanwhile is due StallAfter later, so
// never sleeping longer than that misses nobody.
func (k *Kernel) stalled(now time.Time) ([]Status, time.Duration) {
	k.mu.Lock()
	defer k.mu.Unlock()
	var due []Status
	next := k.opts.StallAfter
	for _, u := range k.units {
		if u.state != StateWaiting && u.state != StateStarting && u.state != StateStopping {
			continue
		}
		if !now.Before(u.reportAt) {
			due = append(due, u.statusLocked())
			pause := max(now.Sub(u.since), k.opts.StallAfter)
			u.reportAt = now.Add(min(pause, maxStallPause*k.opts.StallAfter))
		}
		next = min(next, u.reportAt.Sub(now))
	}
	return due, next
}

// waitsForOthers is not true of a unit that is being prepared.
func waitsForOthers(s Status) bool { return s.State == StateWaiting && len(s.WaitingFor) > 0 }

// reportWaits writes one line for all that wait for others: behind one slow
// unit there are often many, and none of them is the matter.
func (k *Kernel) reportWaits(stalled []Status) {
	var waits []string
	var longest time.Duration
	for _, s := range stalled {
		if waitsForOthers(s) {
			waits = append(waits, s.Unit+" for "+strings.Join(s.WaitingFor, " and "))
			longest = max(longest, time.Since(s.Since))
		}
	}
	if len(waits) > 0 {
		k.log.LogAttrs(context.Background(), slog.LevelWarn, "units are still waiting",
			slog.String("waiting", strings.Join(waits, ", ")), slog.Duration("for", longest.Round(time.Second)))
	}
}

func (k *Kernel) reportStall(s Status) {
	attrs := []slog.Attr{
		slog.String("unit", s.Unit),
		slog.String("state", string(s.State)),
		slog.Time("since", s.Since),
		slog.Duration("for", time.Since(s.Since).Round(time.Second)),
	}
	if len(s.WaitingFor) > 0 { // a stopping unit waits for those that need it
		attrs = append(attrs, slog.String("waiting_for", strings.Join(s.WaitingFor, ", ")))
	}
	if s.Progress != "" {
		attrs = append(attrs, slog.String("progress", s.Progress))
	}
	if s.ProbeError != "" {
		attrs = append(attrs, slog.String("probe_error", s.ProbeError))
	}
	k.log.LogAttrs(context.Background(), slog.LevelWarn, "unit is still "+string(s.State), attrs...)
}
