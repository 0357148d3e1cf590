package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// event is a line of `go test -json`, see `go doc test2json`.
type event struct {
	Action      string
	Package     string
	ImportPath  string // of a build event
	Test        string
	Output      string
	Elapsed     float64
	FailedBuild string
}

// worthSaying is how many seconds a test must take for its success to get a
// line, so that a long run shows where it is.
const worthSaying = 5

// summary counts tests, subtests included. A package that fails without a
// failing test of its own (it does not compile, it panics, it runs out of
// time) counts as one failure.
type summary struct {
	passed  int
	failed  []string
	skipped []string
}

func (s *summary) add(prefix string, other summary) {
	s.passed += other.passed
	for _, name := range other.failed {
		s.failed = append(s.failed, prefix+": "+name)
	}
	for _, name := range other.skipped {
		s.skipped = append(s.skipped, prefix+": "+name)
	}
}

// run runs the step; what it prints on w is the output of what fails. The
// error is about running go test, not about tests.
func (s step) run(ctx context.Context, w io.Writer) (summary, error) {
	cmd := exec.CommandContext(ctx, "go", append([]string{"test", "-json"}, s.args...)...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), s.env...)
	cmd.Stderr = w
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGINT) } // so that it ends its tests
	cmd.WaitDelay = time.Minute
	out, err := cmd.StdoutPipe()
	if err != nil {
		return summary{}, err
	}
	if err := cmd.Start(); err != nil {
		return summary{}, err
	}
	got, readErr := collect(out, w)
	if readErr != nil {
		_, _ = io.Copy(io.Discard, out) // lets the command end; readErr is what went wrong
	}
	err = cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) && len(got.failed) > 0 && ctx.Err() == nil {
		err = nil // the failures are counted
	}
	return got, errors.Join(readErr, err)
}

// collect reads events and counts. It prints one line for each package and,
// for whatever fails, all that it said.
func collect(r io.Reader, w io.Writer) (summary, error) {
	var got summary
	said := map[string]*bytes.Buffer{} // by package, test
	failedTests := map[string]bool{}   // packages with a failed test
	events := json.NewDecoder(r)
	for {
		var e event
		if err := events.Decode(&e); errors.Is(err, io.EOF) {
			return got, nil
		} else if err != nil {
			return got, fmt.Errorf("go test -json: %w", err)
		}
		if e.Package == "" {
			e.Package = e.ImportPath
		}
		key := e.Package + " " + e.Test
		switch e.Action {
		case "output", "build-output":
			if said[key] == nil {
				said[key] = &bytes.Buffer{}
			}
			said[key].WriteString(e.Output)
		case "pass":
			if e.Test != "" {
				got.passed++
			}
			if e.Test == "" || e.Elapsed >= worthSaying {
				fmt.Fprintf(w, "ok    %s %.1fs\n", strings.TrimSpace(key), e.Elapsed)
			}
			delete(said, key)
		case "skip":
			if e.Test != "" {
				got.skipped = append(got.skipped, key)
			}
			delete(said, key)
		case "fail", "build-fail":
			if b := said[key]; b != nil {
				fmt.Fprintf(w, "%s", b.Bytes())
			}
			switch {
			case e.Test != "":
				failedTests[e.Package] = true
				got.failed = append(got.failed, key)
			case e.Action == "fail":
				fmt.Fprintf(w, "FAIL  %s %.1fs\n", e.Package, e.Elapsed)
				if !failedTests[e.Package] {
					got.failed = append(got.failed, e.Package)
				}
			}
			delete(said, key)
		}
	}
}
