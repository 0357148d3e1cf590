package config

import (
	"fmt"
	"slices"
	"strings"
)

// Standing says what a flag of k3s is here.
type Standing uint8

// The standings.
const (
	Same    Standing = iota // an option of the same name and meaning
	Differs                 // an option of the same name; K3sFlag.Why says in what it differs
	NotYet                  // its meaning is missing so far
	Never                   // its meaning does not fit cleat
)

// String is how the compatibility page calls a standing.
func (s Standing) String() string {
	return [...]string{"same", "differs", "not yet", "never"}[s]
}

// K3sFlag is one row of the table of k3s's flags. Flag and key of k3s's config
// file have one name, as here.
type K3sFlag struct {
	Name     string
	Aliases  []string // other spellings in k3s: letters and old names
	Commands Command  // of k3s
	Section  string   // heading of `k3s server --help`
	Env      string   // k3s's variable for it, "" if none
	Standing Standing
	Why      string // the difference, or the reason that it is missing; "" for Same
	Instead  string // what to use, "" if nothing
	Secret   bool   // its value is never printed
}

// FindK3sFlag returns the row of a flag, letter or old name of k3s.
func FindK3sFlag(name string) (K3sFlag, bool) {
	for _, f := range K3sFlags() {
		if f.Name == name || slices.Contains(f.Aliases, name) {
			return f, true
		}
	}
	return K3sFlag{}, false
}

// Difference says, behind a colon, in what the option called name differs from
// k3s's; "" if in nothing. It is for messages about an option in the wrong place,
// where whoever comes from k3s would have it.
func Difference(name string) string {
	if f, ok := FindK3sFlag(name); ok && f.Standing == Differs {
		return ": " + f.Why
	}
	return ""
}

// Explain says in one line why there is no such option, or under which name,
// and what to use instead. It returns "" for a flag that is an option by the
// name given.
func (f K3sFlag) Explain(given string) string {
	var b strings.Builder
	switch f.Standing {
	case NotYet:
		b.WriteString("k3s has it, cleat does not yet: " + f.Why)
	case Never:
		b.WriteString("k3s has it, cleat will not: " + f.Why)
	default:
		if given == f.Name {
			return ""
		}
		return fmt.Sprintf("k3s takes it for %[1]q; write %[1]q", f.Name)
	}
	if f.Instead != "" {
		b.WriteString("; " + f.Instead)
	}
	return b.String()
}

// ForeignEnv returns a line for each variable of k3s in environ that has a
// meaning for k3s: it is not read, and what to use. Values are not in it.
func ForeignEnv(environ []string) []string {
	var lines []string
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		if value == "" {
			continue
		}
		if proxy, ok := strings.CutPrefix(name, "CONTAINERD_"); ok && slices.Contains(proxyVariables(), proxy) {
			lines = append(lines, fmt.Sprintf("%s is a variable of k3s and is not read; containerd runs in this process, so set %s", name, proxy))
			continue
		}
		for _, f := range K3sFlags() {
			switch {
			case f.Env != name:
			case f.Standing == Same || f.Standing == Differs:
				lines = append(lines, fmt.Sprintf("%s is a variable of k3s and is not read; set %s", name, Option{Name: f.Name}.Env()))
			default:
				lines = append(lines, fmt.Sprintf("%s is a variable of k3s and is not read: %s", name, f.Explain(f.Name)))
			}
		}
	}
	slices.Sort(lines)
	return lines
}

func proxyVariables() []string { return []string{"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"} }
