package install

import (
	"bytes"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// pipe runs a command with a script as its standard input. The test reads the file
// itself, or go test would keep a result from before a change.
func pipe(t *testing.T, script string, command ...string) (string, error) {
	t.Helper()
	content, err := os.ReadFile(script)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Stdin = bytes.NewReader(content)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

const installScript = "../../install/install.sh"

// TestShellcheck: the scripts have no fault that shellcheck knows.
func TestShellcheck(t *testing.T) {
	for _, script := range []string{installScript, "boot.sh"} {
		if out, err := pipe(t, script, "shellcheck", "--shell=sh", "-"); err != nil {
			t.Errorf("%s: %v (apt-get install shellcheck)\n%s", script, err, out)
		}
	}
}

// TestUnitHoldsNoSecret: a flag that the reference marks secret does not get into
// the service, which everyone can read, however it is written.
func TestUnitHoldsNoSecret(t *testing.T) {
	reference, err := os.ReadFile("../../docs/reference/options.md")
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| `(--[a-z-]+)`(?:, `(-[a-z])`)?.* \\*secret[^*]*\\* \\|$").FindAllStringSubmatch(string(reference), -1)
	if len(rows) < 3 {
		t.Fatalf("the reference marks %d options secret, want two tokens and the endpoint at least", len(rows))
	}
	for _, row := range rows {
		forms := [][]string{{row[1], "hidden"}, {row[1] + "=hidden"}}
		if letter := row[2]; letter != "" {
			forms = append(forms, []string{letter, "hidden"}, []string{letter + "hidden"}, []string{letter + "=hidden"})
		}
		for _, form := range forms {
			unit := printUnit(t, append(form, "--debug")...)
			if strings.Contains(unit, "hidden") || !strings.Contains(unit, `cleat server "--debug"`) {
				t.Errorf("%q: %s", form, unit)
			}
		}
	}
}

// TestUnitQuotes: systemd gives the server what the shell gave the script.
func TestUnitQuotes(t *testing.T) {
	unit := printUnit(t, "server", "--node-label", `a "b" 100% $HOME \ 'c'`)
	if want := `ExecStart=/usr/local/bin/cleat server "--node-label" "a \"b\" 100%% $$HOME \\ 'c'"` + "\n"; !strings.Contains(unit, want) {
		t.Errorf("got\n%swant\n%s", unit, want)
	}
}

// TestUnitOfAnAgent: a server to join makes it one, unless a command is given.
func TestUnitOfAnAgent(t *testing.T) {
	if unit := printUnit(t, "agent", "--node-name", "n2"); !strings.Contains(unit, `cleat agent "--node-name" "n2"`) {
		t.Error(unit)
	}
	t.Setenv("CLEAT_SERVER", "https://10.99.0.1:6443")
	if unit := printUnit(t, "--node-name", "n2"); !strings.Contains(unit, `cleat agent "--node-name" "n2"`) {
		t.Error(unit)
	}
	if unit := printUnit(t, "server"); !strings.Contains(unit, "cleat server\n") {
		t.Error(unit)
	}
}

// TestVariablesOfK3s: who means an agent, in k3s's words, does not get a server.
func TestVariablesOfK3s(t *testing.T) {
	t.Setenv("K3S_URL", "https://10.99.0.1:6443")
	out, err := pipe(t, installScript, "sh", "-s", "-", "--print-unit")
	if err == nil || !strings.Contains(out, "set CLEAT_SERVER") || strings.Contains(out, "ExecStart") {
		t.Errorf("%v\n%s", err, out)
	}
	t.Setenv("CLEAT_SERVER", "https://10.99.0.1:6443")
	if unit := printUnit(t); !strings.Contains(unit, "cleat agent\n") {
		t.Error(unit)
	}
}

func printUnit(t *testing.T, flags ...string) string {
	t.Helper()
	out, err := pipe(t, installScript, append([]string{"sh", "-s", "-", "--print-unit"}, flags...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return out
}
