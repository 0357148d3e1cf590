package configcmd

import (
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
	role       config.Command // what the machine is in k3s
	roleBy     string         // what tells so
	found      []found
	registries string   // the path of registries.yaml if it exists
	variables  []string // of the service that are no flag of k3s but may matter
}

// readHost reads what k3s on this machine is started with. The strongest source
// of a flag comes first in k3s: the command line, the config file, a variable.
// Where the role is not 0 it was said by the operator.
func readHost(k3sDir, systemdDir string, role config.Command) (*host, error) {
	s, err := readUnits(systemdDir, role)
	if err != nil {
		return nil, err
	}
	h := &host{role: s.role, roleBy: s.unit}
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
		return nil, fmt.Errorf("no k3s here: %s says nothing, and in %s is neither k3s.service nor k3s-agent.service", file, systemdDir)
	}
	switch {
	case h.role != 0:
	case role != 0:
		h.role, h.roleBy = role, fmt.Sprintf("--agent=%t", role == config.Agent)
	default:
		h.guessRole(file)
	}
	return h, nil
}

// guessRole goes by the config file alone, where no unit tells. Servers of k3s may
// join a server too.
func (h *host) guessRole(file string) {
	const none, forAgent = "there is no unit, and ", "; --agent takes it for an agent's"
	h.role, h.roleBy = config.Server, none+file+" names no server to join"+forAgent
	joins, ofServers := false, ""
	for _, one := range h.found {
		f, known := config.FindK3sFlag(one.name)
		joins = joins || f.Name == "server"
		if known && f.Commands&config.Agent == 0 && ofServers == "" {
			ofServers = one.name
		}
	}
	switch {
	case joins && ofServers == "":
		h.role, h.roleBy = config.Agent, none+file+" names a server to join; --agent=false takes it for a server's"
	case joins:
		h.roleBy = none + file + " has " + ofServers + ", as only servers do" + forAgent
	}
}

// readUnits returns the unit of k3s in dir, an empty one if there is none. Of two
// the role chooses.
func readUnits(dir string, role config.Command) (*service, error) {
	var all []*service
	for _, u := range []struct {
		name string
		role config.Command // without a command in ExecStart
	}{{"k3s", config.Server}, {"k3s-agent", config.Agent}} {
		s, err := readService(dir, u.name)
		if err != nil {
			return nil, err
		}
		if s == nil {
			continue
		}
		s.role = u.role
		if len(s.args) > 0 && !strings.HasPrefix(s.args[0], "-") {
			var known bool
			if s.role, known = map[string]config.Command{"server": config.Server, "agent": config.Agent}[s.args[0]]; !known {
				return nil, fmt.Errorf("%s starts `k3s %s`, neither a server nor an agent", s.argsAt, s.args[0])
			}
		}
		all = append(all, s)
	}
	fits := slices.DeleteFunc(slices.Clone(all), func(s *service) bool { return role != 0 && s.role != role })
	switch {
	case len(all) == 0:
		return &service{}, nil
	case len(fits) == 0:
		return nil, fmt.Errorf("%s is that of %s of k3s; leave out --agent", all[0].unit, all[0].role.Node())
	case len(fits) > 1:
		return nil, fmt.Errorf("this machine has both %s and %s: say which of them is in use with --agent or --agent=false, or name a directory that has it alone with --systemd-dir",
			all[0].unit, all[1].unit)
	}
	return fits[0], nil
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
		args = args[1:] // the command, see readUnits
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
