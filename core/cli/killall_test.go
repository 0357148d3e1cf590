package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/cleanup"
)

// cleanCall runs one of the two commands and returns what the work was given.
func cleanCall(t *testing.T, a *app, fail error, args ...string) (given []cleanup.Options, out string, err error) {
	t.Helper()
	work := func(_ context.Context, o cleanup.Options) error {
		given = append(given, o)
		return fail
	}
	with := cleaner{killall: work, uninstall: work, targets: func(o cleanup.Options) ([]string, error) {
		if o.Data == "/home" {
			return nil, errors.New("of the system")
		}
		return []string{string(o.Data) + "/server (data)"}, nil
	}}
	cmd := a.killallCommand(with)
	if args[0] == "uninstall" {
		cmd = a.uninstallCommand(with)
	}
	var b strings.Builder
	cmd.SetOut(&b)
	cmd.SetErr(&b)
	cmd.SetIn(strings.NewReader("yes\n")) // no terminal
	cmd.SetArgs(args[1:])
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.Execute()
	return given, b.String(), err
}

func TestKillallOptions(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	if err := os.WriteFile(file, []byte("data-dir: /srv/cleat\ndatastore-endpoint: postgres://db/cleat\nnode-name: n7\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	a := testApp()
	a.euid = func() int { return 0 }
	a.environ = func() []string { return []string{"CLEAT_CONFIG=" + file} }
	for _, tc := range []struct {
		args []string
		data string
	}{
		{[]string{"killall"}, "/srv/cleat"},
		{[]string{"killall", "-d", "/data", "--dry-run", "--grace-period", "5s"}, "/data"},
		{[]string{"uninstall", "--yes", "--data-dir", "/data"}, "/data"},
		{[]string{"uninstall", "--dry-run"}, "/srv/cleat"},
	} {
		given, out, err := cleanCall(t, a, nil, tc.args...)
		if err != nil || len(given) != 1 {
			t.Fatalf("%v: %v, called %d times", tc.args, err, len(given))
		}
		o := given[0]
		dry := strings.Contains(strings.Join(tc.args, " "), "--dry-run")
		if string(o.Data) != tc.data || o.Node != "n7" || o.DryRun != dry || !filepath.IsAbs(o.Program) {
			t.Errorf("%v: %+v", tc.args, o)
		}
		if want := defaultGrace; len(tc.args) > 4 && tc.args[0] == "killall" {
			if o.Grace != 5*time.Second {
				t.Errorf("%v: grace period %s", tc.args, o.Grace)
			}
		} else if o.Grace != want {
			t.Errorf("%v: grace period %s", tc.args, o.Grace)
		}
		asks := tc.args[0] == "uninstall" && !dry
		if strings.Contains(out, tc.data+"/server (data)") != asks || strings.Contains(out, "token in "+tc.data+"/server/token") != asks {
			t.Errorf("%v: said\n%s", tc.args, out)
		}
	}

	// An agent's configuration would be none of a server.
	if err := os.WriteFile(file, []byte("data-dir: /srv/node\nserver: https://n1:6443\ndatastore-endpoint: postgres://db/cleat\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	given, _, err := cleanCall(t, a, nil, "killall")
	if err != nil || len(given) != 1 || given[0].Data != "/srv/node" || given[0].Node != "" || given[0].Kubeconfig != config.DefaultWriteKubeconfig {
		t.Errorf("an agent: %v, %+v", err, given)
	}

	// Broken configuration is in the way only of who does not say where the data is.
	if err := os.WriteFile(file, []byte("nonsense: ["), 0o600); err != nil {
		t.Fatal(err)
	}
	if given, _, err := cleanCall(t, a, nil, "killall"); err == nil || len(given) > 0 {
		t.Errorf("got %v, called %d times", err, len(given))
	}
	if given, _, err := cleanCall(t, a, nil, "killall", "-d", "/data"); err != nil || len(given) != 1 {
		t.Errorf("got %v, called %d times", err, len(given))
	}
}

func TestKillallRefuses(t *testing.T) {
	a := testApp()
	a.environ = func() []string { return nil }
	a.euid = func() int { return 1000 }
	for _, name := range []string{"killall", "uninstall"} {
		given, _, err := cleanCall(t, a, nil, name, "-d", "/data")
		if err == nil || !strings.Contains(err.Error(), "root") || len(given) > 0 {
			t.Errorf("%s as a user: %v, called %d times", name, err, len(given))
		}
	}
	a.euid = func() int { return 0 }
	given, out, err := cleanCall(t, a, nil, "uninstall", "-d", "/data")
	var h hinted
	if !errors.As(err, &h) || !strings.Contains(h.hint, "--yes") || len(given) > 0 || !strings.Contains(out, "/data/server") {
		t.Errorf("without a terminal: %v, called %d times, said\n%s", err, len(given), out)
	}
	given, out, err = cleanCall(t, a, nil, "uninstall", "-d", "/home", "--yes")
	if err == nil || !strings.Contains(err.Error(), "of the system") || len(given) > 0 || out != "" {
		t.Errorf("of what is refused: %v, called %d times, said\n%s", err, len(given), out)
	}
	if _, _, err := cleanCall(t, a, nil, "killall", "-d", "/data", "--grace-period", "-1s"); err == nil {
		t.Error("a negative grace period is taken")
	}
	broken := errors.New("mounts: busy")
	if _, _, err := cleanCall(t, a, broken, "uninstall", "-d", "/data", "--yes"); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
}
