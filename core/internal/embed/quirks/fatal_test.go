package quirks

import (
	"context"
	"errors"
	"log/slog"
	"runtime/pprof"
	"testing"

	"k8s.io/klog/v2"
)

func TestCatchFatal(t *testing.T) {
	exit := klog.OsExit
	t.Cleanup(func() { klog.OsExit = exit })
	bridge(t, slog.LevelInfo, LogOptions{})
	type words struct{ unit, said string }
	heard := make(chan words, 1)
	CatchFatal("unit", func(unit, said string) { heard <- words{unit, said} })
	for _, tt := range []struct {
		name string
		call func()
		said string
	}{
		{"Fatalf", func() { klog.Fatalf("PostStartHook %q failed", "rbac") }, `PostStartHook "rbac" failed`},
		{"ErrorS and FlushAndExit", func() {
			klog.ErrorS(errors.New("lost"), "leader election")
			klog.FlushAndExit(klog.ExitFlushTimeout, 1)
		}, "leader election: lost"},
	} {
		wentOn := false
		ended := make(chan struct{})
		pprof.Do(t.Context(), pprof.Labels("unit", "apiserver"), func(context.Context) {
			go func() { // inherits the label
				defer close(ended)
				tt.call()
				wentOn = true
			}()
			<-ended
		})
		if got := <-heard; got != (words{"apiserver", tt.said}) {
			t.Errorf("%s: heard %+v, want %q of apiserver", tt.name, got, tt.said)
		}
		if wentOn {
			t.Errorf("%s returned to its caller", tt.name)
		}
	}
}
