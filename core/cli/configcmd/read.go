package configcmd

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
)

// found is what a k3s host says about one flag of k3s.
type found struct {
	name    string // as written there
	values  []string
	origin  string
	weaker  []string // origins of values that k3s does not use because of this one
	source  int      // a lower one is stronger
	special bool     // systemd would change the value before k3s sees it
}

// host is the configuration of a k3s host.
type host struct {
	found      []found
	registries string   // the path of registries.yaml if it exists
	variables  []string // of the service that are no flag of k3s but may matter
}

// readHost reads what k3s on this machine is started with. The strongest source
// of a flag comes first in k3s: the command line, the config file, a variable.
func readHost(k3sDir, systemdDir string) (*host, error) {
	s, err := readService(systemdDir, "k3s")
	if err != nil {
		return nil, err
	}
	if s == nil {
		agent, err := readService(systemdDir, "k3s-agent")
		if err != nil {
			return nil, err
		}
		if agent != nil {
			return nil, errors.New("this machine is an agent of k3s; cleat has no nodes on other machines yet, so run this on a server")
		}
		s = &service{}
	}
	h := &host{}
	line, err := flagsOf(s)
	if err != nil {
		return nil, err
	}
	var variables []found
	for _, v := range s.environ {
		switch f, ok := flagOfVariable(v.name); {
		case v.value == "":
		case ok:
			variables = append(variables, found{name: f.Name, values: []string{v.value}, origin: v.name + " in " + v.at, source: sourceVariable})
		case strings.HasPrefix(v.name, "K3S_"), strings.HasPrefix(v.name, "CONTAINERD_"), strings.HasSuffix(strings.ToUpper(v.name), "_PROXY"):
			h.variables = append(h.variables, v.name)
		}
	}
	file := filepath.Join(k3sDir, "config.yaml")
	for _, list := range [][]found{line, variables} { // here the variable wins in k3s
		for _, one := range list {
			if canonical(one.name) == "config" {
				file = one.values[len(one.values)-1]
			}
		}
	}
	given, err := config.ReadGiven(file)
	if err != nil {
		return nil, err
	}
	for _, one := range line {
		h.add(one)
	}
	for _, g := range given {
		h.add(found{name: g.Key, values: g.Values, origin: g.Origin, source: sourceFile})
	}
	for _, one := range variables {
		h.add(one)
	}
	if regs := filepath.Join(k3sDir, "registries.yaml"); exists(regs) {
		h.registries = regs
	}
	if s.argsAt == "" && len(h.found) == 0 && h.registries == "" {
		return nil, fmt.Errorf("no k3s here: neither %s nor %s says anything", file, filepath.Join(systemdDir, "k3s.service"))
	}
	return h, nil
}

// The sources of k3s, the strongest first.
const (
	sourceLine = iota
	sourceFile
	sourceVariable
)

// add takes what a source says unless a stronger one has said it; a flag that
// one source gives more than once has all the values.
func (h *host) add(one found) {
	i := slices.IndexFunc(h.found, func(f found) bool { return canonical(f.name) == canonical(one.name) })
	switch {
	case i < 0:
		h.found = append(h.found, one)
	case h.found[i].source == one.source:
		h.found[i].values = append(h.found[i].values, one.values...)
		if one.origin != h.found[i].origin {
			h.found[i].origin += ", " + one.origin
		}
		h.found[i].special = h.found[i].special || one.special
	default:
		h.found[i].weaker = append(h.found[i].weaker, one.origin)
	}
}

// canonical is the name that k3s has for a flag, which may be given by a letter
// or an old name.
func canonical(name string) string {
	if f, ok := config.FindK3sFlag(name); ok {
		return f.Name
	}
	return name
}

func flagOfVariable(name string) (config.K3sFlag, bool) {
	for _, f := range config.K3sFlags() {
		if f.Env == name {
			return f, true
		}
	}
	return config.K3sFlag{}, false
}

// flagsOf reads the command line of the service. Flags have one dash or two,
// and their values are in the same word or in the next.
func flagsOf(s *service) ([]found, error) {
	args := s.args
	if len(args) > 0 && !strings.HasPrefix(args[0], "-") {
		if args[0] != "server" {
			return nil, fmt.Errorf("%s starts `k3s %s`, not a server", s.argsAt, args[0])
		}
		args = args[1:]
	}
	var all []found
	for len(args) > 0 {
		word := args[0]
		args = args[1:]
		name, value, has := strings.Cut(strings.TrimPrefix(strings.TrimPrefix(word, "-"), "-"), "=")
		if !strings.HasPrefix(word, "-") || name == "" {
			return nil, fmt.Errorf("%s: ExecStart: word %d is neither a flag nor the value of one", s.argsAt, len(s.args)-len(args)+1)
		}
		if !has {
			value = "true"
			if takesValue(name, args) {
				value, args = args[0], args[1:]
			}
		}
		all = append(all, found{name: name, values: []string{value}, origin: "ExecStart in " + s.argsAt, source: sourceLine,
			special: strings.ContainsAny(value, "$%")})
	}
	return all, nil
}

// takesValue tells whether the word after a flag is its value. Of flags that
// cleat does not have it is, unless it looks like another flag.
func takesValue(name string, rest []string) bool {
	if len(rest) == 0 {
		return false
	}
	for _, o := range config.Table() {
		if o.Name == canonical(name) {
			return o.Kind() != config.Toggle
		}
	}
	return !strings.HasPrefix(rest[0], "-")
}
