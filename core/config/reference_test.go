package config

import (
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"
)

//go:generate go test -run ^Test(K3s)?Reference$ -update

const referenceFile = "../../docs/reference/options.md"

// TestReference holds docs/reference/options.md to the option table.
func TestReference(t *testing.T) { compareReference(t, referenceFile, reference()) }

// compareReference holds a generated page to what it is generated from.
func compareReference(t *testing.T, file, want string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is not what its table says; run go generate ./core/config", file)
	}
}

var update = flag.Bool("update", false, "write the generated reference")

func reference() string {
	var b strings.Builder
	b.WriteString(`# Options of cleat

<!-- Generated from the option table in core/config; change it there and run go generate ./core/config. -->

Each option is a flag, a variable and a key of the config file. The strongest source that gives it wins:

1. the flag;
2. the variable (an empty one counts as not set);
3. the files ` + "`*.yaml`" + ` and ` + "`*.yml`" + ` of the directory ` + "`config.yaml.d`" + ` beside the config file, in alphabetical order, later ones over earlier;
4. the config file;
5. the default.

In a file the key is the flag's name without dashes in front. An option marked *list* may be given more than once, in a file
as a YAML list. A stronger source replaces the list of a weaker one; only ` + "`key+:`" + ` in a file appends to what the
files before it gave. One flag, variable or plain value may hold several values with commas between them or, for component
arguments, which hold commas themselves, one on each line.

An unknown flag or key is an error. One marked *common* must have the same value on all servers of a cluster that run at a
time; to change it, stop all servers and start them with the new one. One marked *fixed* stays as it was at the
cluster's first start. Options marked *secret* are never printed; give them by file or variable, because flags
show in the process list.
`)
	group := ""
	for _, o := range Table() {
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(&b, "\n## %s\n\n| flag | variable | default | |\n|---|---|---|---|\n", group)
		}
		name := "`--" + o.Name + "`"
		if o.Short != "" {
			name += ", `-" + o.Short + "`"
		}
		if o.Value != "" {
			name += " *" + o.Value + "*"
		}
		def := o.Found
		if o.Default != "" {
			def = "`" + o.Default + "`"
		}
		fmt.Fprintf(&b, "| %s | `%s` | %s | %s%s |\n", name, o.Env(), def, o.Help, marks(o))
	}
	return b.String()
}

func marks(o Option) string {
	var m []string
	if o.Kind() == List {
		m = append(m, "list")
	}
	if o.Secret {
		m = append(m, "secret")
	}
	switch o.Agree {
	case Common:
		m = append(m, "common")
	case Fixed:
		m = append(m, "fixed")
	}
	if len(m) == 0 {
		return ""
	}
	return " *" + strings.Join(m, ", ") + "*"
}
