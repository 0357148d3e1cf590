package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
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
	a.setTitle = func(string, []string) error { return nil } // this process is the test
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
	a.setTitle = func(command string, variables []string) error {
		if command != "server" || !slices.Equal(variables, []string{"CLEAT_TOKEN", "CLEAT_DATASTORE_ENDPOINT"}) {
			t.Errorf("title %q, hides %q", command, variables)
		}
		return errors.New("not allowed")
	}
	code, _, stderr := call(a, "server", "--token", "s3cret")
	if code != 0 || !strings.Contains(stderr, "give secrets by file or variable") || strings.Contains(stderr, "s3cret") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	if _, _, stderr = call(a, "server"); strings.Contains(stderr, "process list") {
		t.Errorf("without a secret: said %q", stderr)
	}
}

func TestLogFile(t *testing.T) {
	a := serverApp(t, func(_ context.Context, _ *config.Config, log *slog.Logger) error {
		log.Info("served")
		return nil
	})
	file := filepath.Join(t.TempDir(), "cleat.log")
	for range 2 {
		if code, _, stderr := call(a, "server", "--log", file); code != 0 || stderr != "" {
			t.Fatalf("exit code %d, said %q", code, stderr)
		}
	}
	if code, _, stderr := call(a, "server", "--log", file, "--alsologtostderr"); code != 0 || !strings.Contains(stderr, "served") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	text, err := os.ReadFile(file)
	if err != nil || strings.Count(string(text), `"msg":"served"`) != 3 {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	a.detect = func(context.Context, *config.Config) error { return errors.New("no address") }
	if code, _, stderr := call(a, "server", "--log", file); code != 1 || stderr != "cleat: no address\n" {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), `"err":"no address"`) {
		t.Errorf("the file holds %q, %v", text, err)
	}
	if code, _, stderr := call(a, "server", "--log", "/nowhere/cleat.log"); code != 1 || !strings.Contains(stderr, "name a file in a directory that exists") {
		t.Errorf("exit code %d, said %q", code, stderr)
	}
}

func TestNoProxy(t *testing.T) {
	for _, c := range []struct {
		environ []string
		want    string
	}{
		{nil, ""},
		{[]string{"NO_PROXY=a.example"}, ""},
		{[]string{"https_proxy=http://p:3128"}, "localhost,127.0.0.0/8,::1,.svc,.cluster.local,10.42.0.0/16,10.43.0.0/16,192.0.2.10"},
		{[]string{"HTTP_PROXY=http://p:3128", "NO_PROXY=a.example, .svc", "no_proxy=b.example"},
			"a.example,.svc,b.example,localhost,127.0.0.0/8,::1,.cluster.local,10.42.0.0/16,10.43.0.0/16,192.0.2.10"},
	} {
		set := make(map[string]string)
		a := serverApp(t, func(context.Context, *config.Config, *slog.Logger) error {
			if set["NO_PROXY"] != c.want || set["no_proxy"] != c.want {
				t.Errorf("with %q the server has %q", c.environ, set)
			}
			return nil
		})
		own := a.environ()
		a.environ = func() []string { return append(own, c.environ...) }
		a.setenv = func(key, value string) error { set[key] = value; return nil }
		if code, _, stderr := call(a, "server"); code != 0 {
			t.Errorf("exit code %d, said %q", code, stderr)
		}
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

func TestReportKnowsAWayOut(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("unit images: %w", &fs.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}), "df -h"},
		{errors.New("unit controllermanager: listen tcp 127.0.0.1:10257: bind: address already in use"), "ss -ltnp"},
		{hinted{fmt.Errorf("open /x: %w", syscall.EROFS), "its own advice"}, "its own advice"},
		{errors.New("something else"), ""},
	} {
		var out strings.Builder
		report(&out, tt.err)
		_, advice, found := strings.Cut(out.String(), "\n       ")
		if found != (tt.want != "") || !strings.Contains(advice, tt.want) || strings.Count(out.String(), "\n       ") > 1 {
			t.Errorf("%v is reported as %q, want advice with %q", tt.err, out.String(), tt.want)
		}
	}
}

func TestCommandsOfMissingProgramsAreAbsent(t *testing.T) {
	for _, cmd := range New(Programs{}).Commands() {
		switch cmd.Name() {
		case "status", "ui", "certificate", "check-config", "config", "version", "completion", "killall", "uninstall":
		default:
			t.Errorf("command %s has no program", cmd.Name())
		}
	}
}
