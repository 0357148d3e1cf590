package kerneltest

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// recorder is a testing.TB that keeps what it is told instead of failing.
type recorder struct {
	testing.TB
	cleanup []func()
	errors  []string
}

func (r *recorder) Helper()          {}
func (r *recorder) Cleanup(f func()) { r.cleanup = append(r.cleanup, f) }
func (r *recorder) Errorf(format string, args ...any) {
	r.errors = append(r.errors, fmt.Sprintf(format, args...))
}

func (r *recorder) end() {
	for i := len(r.cleanup) - 1; i >= 0; i-- {
		r.cleanup[i]()
	}
}

func TestNoLeaksSeesALeak(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	r := &recorder{TB: t}
	noLeaks(r, 20*time.Millisecond)
	go func() { <-release }()
	r.end()
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], "TestNoLeaksSeesALeak") {
		t.Errorf("the leak was not reported by its function: %q", r.errors)
	}
}

func TestRun(t *testing.T) {
	NoLeaks(t)
	f := Instant()
	stop := Run(t, f)
	if err := stop(); err != nil {
		t.Errorf("stop: %v", err)
	}
	select {
	case <-f.Stopped():
	default:
		t.Error("stop returned before Run did")
	}
}

func TestRunReportsAFailure(t *testing.T) {
	NoLeaks(t)
	r := &recorder{TB: t}
	f := Instant()
	Run(r, f)
	f.Fail(errors.New("disk full"))
	<-f.Stopped()
	r.end()
	if len(r.errors) != 1 || !strings.Contains(r.errors[0], "disk full") {
		t.Errorf("the failure was not reported: %q", r.errors)
	}
}
