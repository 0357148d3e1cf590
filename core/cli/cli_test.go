package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/cleat-dev/cleat/core/config"
)

// call runs a command line in this process.
func call(a *app, args ...string) (code int, stdout, stderr string) {
	var out, errOut strings.Builder
	code = a.main(append([]string{"cleat"}, args...), strings.NewReader(""), &out, &errOut)
	return code, out.String(), errOut.String()
}

// serverApp is an app whose environment names an empty config file and whose
// server is run.
func serverApp(t *testing.T, run func(context.Context, *config.Config, *slog.Logger) error) *app {
	t.Helper()
	file := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a := testApp()
	a.programs.Server = run
	a.environ = func() []string { return []string{"CLEAT_CONFIG=" + file} }
	a.unsetenv = func(string) error { return nil }
	return a
}

func signals(list ...os.Signal) (func() (<-chan os.Signal, func()), chan<- os.Signal) {
	c := make(chan os.Signal, 2)
	for _, s := range list {
		c <- s
	}
	return func() (<-chan os.Signal, func()) { return c, func() {} }, c
}

func TestFirstSignalStopsInOrder(t *testing.T) {
	for name, result := range map[string]func(context.Context) error{
		"nil":       func(context.Context) error { return nil },
		"ctx.Err":   func(ctx context.Context) error { return ctx.Err() },
		"its cause": func(ctx context.Context) error { return fmt.Errorf("stopped: %w", context.Cause(ctx)) },
	} {
		a := serverApp(t, func(ctx context.Context, _ *config.Config, _ *slog.Logger) error {
			<-ctx.Done()
			return result(ctx)
		})
		a.notify, _ = signals(syscall.SIGTERM)
		code, _, stderr := call(a, "server")
		if code != 0 || !strings.Contains(stderr, "stopping") {
			t.Errorf("%s: exit code %d, said %q", name, code, stderr)
		}
	}
}

func TestFailureWhileStopping(t *testing.T) {
	a := serverApp(t, func(ctx context.Context, _ *config.Config, _ *slog.Logger) error {
		<-ctx.Done()
		return errors.New("datastore: disk full")
	})
	a.notify, _ = signals(syscall.SIGINT)
	if code, _, stderr := call(a, "server"); code != 1 || !strings.Contains(stderr, "cleat: datastore: disk full\n") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestSecondSignalEndsAtOnce(t *testing.T) {
	release := make(chan struct{})
	defer close(release)
	a := serverApp(t, func(context.Context, *config.Config, *slog.Logger) error {
		<-release // ignores its context
		return nil
	})
	a.notify, _ = signals(syscall.SIGINT, syscall.SIGTERM)
	if code, _, stderr := call(a, "server"); code != 1 || !strings.Contains(stderr, errSecondSignal.Error()) {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestRealSignal(t *testing.T) {
	a := serverApp(t, func(ctx context.Context, _ *config.Config, _ *slog.Logger) error {
		if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		<-ctx.Done()
		return context.Cause(ctx)
	})
	if code, _, stderr := call(a, "server"); code != 0 || !strings.Contains(stderr, "terminated") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestServerNeedsRoot(t *testing.T) {
	a := serverApp(t, func(context.Context, *config.Config, *slog.Logger) error { return nil })
	a.euid = func() int { return 1000 }
	if code, _, stderr := call(a, "server"); code != 1 || !strings.Contains(stderr, "must run as root") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestDetectErrorsEndTheServer(t *testing.T) {
	a := serverApp(t, func(context.Context, *config.Config, *slog.Logger) error {
		t.Error("the server ran")
		return nil
	})
	a.detect = func(context.Context, *config.Config) error { return errors.New("no address for this node") }
	if code, _, stderr := call(a, "server"); code != 1 || !strings.Contains(stderr, "cleat: no address for this node\n") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	// What was found is checked as what was given is.
	a.detect = func(_ context.Context, cfg *config.Config) error {
		cfg.NodeName = "Not A Name"
		return nil
	}
	if code, _, stderr := call(a, "server"); code != 1 || !strings.Contains(stderr, "--node-name") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestHidingFailureIsTold(t *testing.T) {
	a := serverApp(t, func(context.Context, *config.Config, *slog.Logger) error { return nil })
	a.hideArgs = func(secrets []string) error {
		if len(secrets) != 1 || secrets[0] != "s3cret" {
			t.Errorf("hides %q", secrets)
		}
		return errors.New("not allowed")
	}
	code, _, stderr := call(a, "server", "--token", "s3cret")
	if code != 0 || !strings.Contains(stderr, "--token-file") || strings.Contains(stderr, "s3cret") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestReportKeepsSentencesTogether(t *testing.T) {
	err := hinted{errors.Join(
		errors.New("one"),
		errors.Join(errors.New("two"), fmt.Errorf("three: %w and %w", io.EOF, io.ErrClosedPipe)),
		errors.New("four\nof two lines"),
	), "advice"}
	var out strings.Builder
	report(&out, err)
	want := "cleat: one\ncleat: two\ncleat: three: EOF and io: read/write on closed pipe\ncleat: four\n       of two lines\n       advice\n"
	if out.String() != want {
		t.Errorf("got\n%swant\n%s", out.String(), want)
	}
}

func TestCommandsOfMissingProgramsAreAbsent(t *testing.T) {
	for _, cmd := range New(Programs{}).Commands() {
		switch cmd.Name() {
		case "status", "check-config", "version", "completion":
		default:
			t.Errorf("command %s has no program", cmd.Name())
		}
	}
}

func TestBlank(t *testing.T) {
	for in, want := range map[string]string{
		"cleat\x00server\x00--token\x00abc\x00":               "cleat\x00server\x00--token\x00xxx\x00",
		"cleat\x00server\x00--token=abc\x00-tabc\x00":         "cleat\x00server\x00--token=xxx\x00-txxx\x00",
		"cleat\x00server\x00--tls-san\x00abc.example.org\x00": "cleat\x00server\x00--tls-san\x00abc.example.org\x00",
		"cleat\x00--token\x00abc":                             "cleat\x00--token\x00xxx",
		"":                                                    "",
	} {
		area := []byte(in)
		if changed := blank(area, []string{"", "abc"}); string(area) != want || changed != (in != want) {
			t.Errorf("%q became %q, want %q", in, area, want)
		}
	}
}

func FuzzArgArea(f *testing.F) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(stat))
	f.Add("1 (a) b) S " + strings.Repeat("9 ", 60))
	f.Fuzz(func(t *testing.T, s string) {
		if start, end, err := argArea(s); err == nil && (start <= 0 || end <= start || end-start > maxArgs) {
			t.Errorf("area %d to %d", start, end)
		}
	})
}
