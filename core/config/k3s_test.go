package config

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestK3sTable keeps the table true to the options and complete in itself.
func TestK3sTable(t *testing.T) {
	options := make(map[string]Option)
	for _, o := range Table() {
		options[o.Name] = o
	}
	seen := make(map[string]string)
	for _, f := range K3sFlags() {
		o, here := options[f.Name]
		switch f.Standing {
		case Same, Differs:
			if !here {
				t.Errorf("%s is %s, but cleat has no such option", f.Name, f.Standing)
				continue
			}
			if o.Commands&^f.Commands != 0 {
				t.Errorf("%s: cleat has it for commands that k3s does not", f.Name)
			}
			if o.Short != "" && !slices.Contains(append(f.Aliases, f.Name), o.Short) {
				t.Errorf("%s: -%s is not k3s's letter, which are %v", f.Name, o.Short, f.Aliases)
			}
			for _, a := range f.Aliases {
				if len(a) == 1 && a != o.Short {
					t.Errorf("%s: k3s has the letter -%s for it, cleat has %q", f.Name, a, o.Short)
				}
			}
			if f.Secret != o.Secret {
				t.Errorf("%s: secret %v, the option %v", f.Name, f.Secret, o.Secret)
			}
			if (f.Standing == Differs) != (f.Why != "") || f.Instead != "" {
				t.Errorf("%s is %s: why %q, instead %q", f.Name, f.Standing, f.Why, f.Instead)
			}
		case NotYet, Never:
			if here {
				t.Errorf("%s is %s, but cleat has such an option", f.Name, f.Standing)
			}
			if f.Why == "" || f.Standing == Never && f.Instead == "" {
				t.Errorf("%s is %s: why %q, instead %q", f.Name, f.Standing, f.Why, f.Instead)
			}
			if strings.HasSuffix(f.Why+f.Instead, ".") {
				t.Errorf("%s: a full stop: %q %q", f.Name, f.Why, f.Instead)
			}
		}
		if f.Section == "" || f.Commands == 0 {
			t.Errorf("%s has no section or command", f.Name)
		}
		for _, name := range append([]string{f.Name}, f.Aliases...) {
			if other := seen[name]; other != "" && name != f.Name {
				t.Errorf("%s is a name of both %s and %s", name, other, f.Name)
			} else if other != "" {
				t.Errorf("%s is in the table twice", name)
			}
			seen[name] = f.Name
		}
	}
	for _, name := range strings.Fields(ours) {
		if _, ok := options[name]; !ok || seen[name] != "" {
			t.Errorf("%s is no option of cleat alone", name)
		}
		delete(options, name)
	}
	for name := range options {
		if seen[name] != name {
			t.Errorf("option %s is neither a row of k3s's flags nor one of cleat alone", name)
		}
	}
}

// ours are the options that k3s does not have.
const ours = "log-format plugins-lock plugins-dir plugins-capture cni certificate-lifetime"

// TestK3sFlagsAreAll holds the table to the names that k3s's own help has.
func TestK3sFlagsAreAll(t *testing.T) {
	text, err := os.ReadFile("testdata/k3s-flags.txt")
	if err != nil {
		t.Fatal(err)
	}
	var want []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			want = append(want, line)
		}
	}
	for _, name := range want {
		if f, ok := FindK3sFlag(name); !ok {
			t.Errorf("%s is missing in the table", name)
		} else if f.Standing != Same && f.Standing != Differs && f.Explain(name) == "" {
			t.Errorf("%s has no explanation", name)
		}
	}
	for _, f := range K3sFlags() {
		if !slices.Contains(want, f.Name) {
			t.Errorf("%s is in the table but not in k3s's help", f.Name)
		}
	}
}

func TestForeignEnv(t *testing.T) {
	got := ForeignEnv([]string{
		"K3S_TOKEN=hunter2", "K3S_URL=https://a:6443", "K3S_NODE_NAME=", "CONTAINERD_HTTPS_PROXY=http://u:hunter2@p", "CLEAT_TOKEN=x", "K3S_KUBECONFIG_MODE=644",
	})
	want := []string{
		"CONTAINERD_HTTPS_PROXY is a variable of k3s and is not read; containerd runs in this process, so set HTTPS_PROXY",
		"K3S_KUBECONFIG_MODE is a variable of k3s and is not read; set CLEAT_WRITE_KUBECONFIG_MODE",
		"K3S_TOKEN is a variable of k3s and is not read; set CLEAT_TOKEN",
		"K3S_URL is a variable of k3s and is not read; set CLEAT_SERVER",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

const compatibilityFile = "../../docs/reference/k3s-compatibility.md"

// TestK3sReference holds docs/reference/k3s-compatibility.md to the table.
func TestK3sReference(t *testing.T) { compareReference(t, compatibilityFile, k3sReference()) }

func k3sReference() string {
	var b strings.Builder
	counts := make(map[Standing]int)
	flags := K3sFlags()
	for _, f := range flags {
		counts[f.Standing]++
	}
	fmt.Fprintf(&b, `# Flags of k3s

<!-- Generated from the table of k3s's flags in core/config; change it there and run go generate ./core/config. -->

Every flag of `+"`k3s server` and `k3s agent`"+` of k3s 1.34, hidden ones too, and what it is in cleat. The same
holds for the key of the config file, which has the flag's name. Of %d flags, %d are the same, %d differ in
what is said, %d are not there yet and %d will not be.

A flag or key that is not there is an error that says what this page says. `+"`cleat config migrate --from-k3s`"+`
reads the configuration of a k3s host; [the guide](../guides/move-from-k3s.md) shows it.

What differs for all of them:

- Variables begin with `+"`CLEAT_`"+` and every option has one: [options.md](options.md) lists them. A variable of
  k3s that is set is named in a warning and not read.
- A variable wins over the config file. In k3s the file wins over the variable.
- An unknown flag or key is an error with the nearest name.
- Flags have two dashes. k3s takes one as well.
`, len(flags), counts[Same], counts[Differs], counts[NotYet], counts[Never])
	section := ""
	for _, f := range flags {
		if f.Section != section {
			section = f.Section
			fmt.Fprintf(&b, "\n## %s\n\n| flag of k3s | variable of k3s | in cleat | |\n|---|---|---|---|\n", section)
		}
		name := "`--" + f.Name + "`"
		for _, a := range f.Aliases {
			dashes := "--"
			if len(a) == 1 {
				dashes = "-"
			}
			name += ", `" + dashes + a + "`"
		}
		if f.Commands == Agent {
			name += " (agent)"
		}
		env := ""
		if f.Env != "" {
			env = "`" + f.Env + "`"
		}
		text := f.Why
		if f.Instead != "" {
			text += "; " + f.Instead
		}
		fmt.Fprintf(&b, "| %s | %s | %s | %s |\n", name, env, f.Standing, text)
	}
	b.WriteString("\n## Options that k3s does not have\n\n")
	for _, name := range strings.Fields(ours) {
		fmt.Fprintf(&b, "- `--%s`\n", name)
	}
	return b.String()
}
