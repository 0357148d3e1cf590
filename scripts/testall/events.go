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
	"regexp"
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
	reasons []string // what each of failed said, in short
	skipped []string
}

// reasonLines is how many lines of a failed test are repeated at the end, where its
// whole output is far away.
const reasonLines = 20

// said is the beginning of a test's own message, log or error: go test does not
// tell one from the other.
var said = regexp.MustCompile(`(?m)^ +[a-z0-9_]+_test\.go:\d+: .*$`)

func reason(output []byte) string {
	lines := said.FindAll(output, -1)
	return string(bytes.Join(lines[:min(reasonLines, len(lines))], []byte("\n")))
}

func (s *summary) fail(name string, output []byte) {
	s.failed = append(s.failed, name)
	s.reasons = append(s.reasons, reason(output))
}

func (s *summary) add(prefix string, other summary) {
	s.passed += other.passed
	for _, name := range other.failed {
		s.failed = append(s.failed, prefix+": "+name)
	}
	s.reasons = append(s.reasons, other.reasons...)
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
	outputs := map[string]*bytes.Buffer{} // by package, test
	failedTests := map[string]bool{}      // packages with a failed test
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
			if outputs[key] == nil {
				outputs[key] = &bytes.Buffer{}
			}
			outputs[key].WriteString(e.Output)
		case "pass":
			if e.Test != "" {
				got.passed++
			}
			if e.Test == "" || e.Elapsed >= worthSaying {
				fmt.Fprintf(w, "ok    %s %.1fs\n", strings.TrimSpace(key), e.Elapsed)
			}
			delete(outputs, key)
		case "skip":
			if e.Test != "" {
				got.skipped = append(got.skipped, key)
			}
			delete(outputs, key)
		case "fail", "build-fail":
			var output []byte
			if b := outputs[key]; b != nil {
				output = b.Bytes()
				fmt.Fprintf(w, "%s", output)
			}
			switch {
			case e.Test != "":
				failedTests[e.Package] = true
				got.fail(key, output)
			case e.Action == "fail":
				fmt.Fprintf(w, "FAIL  %s %.1fs\n", e.Package, e.Elapsed)
				if !failedTests[e.Package] {
					got.fail(e.Package, output)
				}
			}
			delete(outputs, key)
		}
	}
}
