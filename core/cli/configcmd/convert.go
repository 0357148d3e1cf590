package configcmd

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/config"
)

// entry is one flag of the k3s host as it is written for cleat.
type entry struct {
	found  found
	option *config.Option // nil: there is none, and the flag is only mentioned
	values []string       // of the option
	notes  []string       // what changed, or why it was left out
	secret bool
}

// convert says what becomes of each flag of a server or an agent.
func convert(all []found, role config.Command) []entry {
	options := make(map[string]config.Option)
	for _, o := range config.Table() {
		options[o.Name] = o
	}
	out := make([]entry, 0, len(all))
	for _, one := range all {
		e := convertOne(one, options, role)
		if e.option != nil && e.option.Commands&role == 0 {
			e.drop("%s is an option of `cleat %s` only", e.option.Name, e.option.Commands)
		}
		if e.option != nil && slices.ContainsFunc(out, func(o entry) bool { return o.option != nil && o.option.Name == e.option.Name }) {
			e.drop("%s is said above", e.option.Name)
		}
		out = append(out, e)
	}
	return out
}

func convertOne(one found, options map[string]config.Option, role config.Command) entry {
	e := entry{found: one}
	f, known := config.FindK3sFlag(one.name)
	if !known {
		e.secret = true // nobody knows what it holds
		e.note("not a flag of k3s 1.34, and none of cleat")
		return e
	}
	e.secret = f.Secret
	if len(one.values) == 0 {
		e.note("an empty list says nothing")
		return e
	}
	if f.Name != one.name {
		e.note("in k3s another name of %s", f.Name)
	}
	if role == config.Agent && f.Commands&config.Agent == 0 {
		e.note("k3s has it for servers only, and an agent of k3s leaves it alone")
		return e
	}
	if f.Standing == config.NotYet || f.Standing == config.Never {
		if f.Name == "no-flannel" && one.values[0] == "true" {
			e.network("cni-none", options)
			return e
		}
		e.note("%s", f.Explain(f.Name))
		return e
	}
	o := options[f.Name]
	e.option, e.values = &o, slices.Clone(one.values)
	if o.Kind() != config.List {
		e.values = e.values[len(e.values)-1:] // the last wins in k3s
	}
	if one.special {
		e.note("systemd replaces $NAME and %%x in it before k3s sees it; write what it stands for")
	}
	// Of a token there is something to say only if k3s made it.
	if f.Standing == config.Differs && (f.Name != "token" || strings.HasPrefix(e.values[0], "K10")) {
		e.note("in cleat: %s", f.Why)
	}
	e.fit(options, role)
	return e
}

// fit changes values that mean something else in cleat.
func (e *entry) fit(options map[string]config.Option, role config.Command) {
	last := ""
	if len(e.values) > 0 {
		last = e.values[len(e.values)-1]
	}
	switch e.option.Name {
	case "config":
		e.drop("its keys are below")
	case "data-dir":
		e.drop("choose a directory of cleat's own if /var/lib/cleat does not do")
	case "token":
		if _, rest, ok := strings.Cut(last, "::"); ok && strings.HasPrefix(last, "K10") {
			if _, password, ok := strings.Cut(rest, ":"); ok {
				rest = password
			}
			e.values = []string{rest}
			e.note("the part before the password is left out")
		}
		if role == config.Agent {
			e.note("an agent joins with it if the servers of cleat have the same; else copy node-token from one of them")
		}
	case "flannel-backend":
		switch last {
		case "vxlan", "host-gw":
		case "none":
			e.network("cni-none", options)
		default:
			e.drop("cni-flannel does not know %q", last)
		}
	case "snapshotter":
		if last != "overlayfs" && last != "native" {
			e.drop("%q is not in the binary", last)
		}
	}
	if e.option == nil {
		return
	}
	if word := oldToggle(last); e.option.Kind() == config.Toggle && word != "" {
		e.values = []string{word}
		e.note("%q is written %s", last, word)
	}
	if !strings.HasSuffix(e.option.Name, "-arg") {
		return
	}
	for i, arg := range e.values {
		fixed := strings.TrimLeft(arg, "-")
		if !strings.Contains(fixed, "=") {
			fixed += "=true"
		}
		if fixed != arg {
			e.note("%q is written %q", arg, fixed)
		}
		e.values[i] = fixed
	}
}

// oldToggle is what the words of YAML 1.1, which k3s reads, mean, or "".
func oldToggle(word string) string {
	switch strings.ToLower(word) {
	case "yes", "y", "on":
		return "true"
	case "no", "n", "off":
		return "false"
	}
	return ""
}

func (e *entry) note(format string, args ...any) {
	e.notes = append(e.notes, fmt.Sprintf(format, args...))
}

func (e *entry) drop(format string, args ...any) {
	e.option, e.values = nil, nil
	e.note("left out: "+format, args...)
}

// network replaces a flag by the network plugin that means it.
func (e *entry) network(plugin string, options map[string]config.Option) {
	o := options["cni"]
	e.option, e.values = &o, []string{plugin}
	e.note("written as cni: %s", plugin)
}

// tokenFiles are what cleat would say of the files that hold tokens.
func tokenFiles(entries []entry) []string {
	var refused []string
	for _, e := range entries {
		if e.option == nil || e.option.Name != "token-file" && e.option.Name != "agent-token-file" {
			continue
		}
		path := e.values[0]
		text, err := readSmall(path)
		if err != nil {
			refused = append(refused, fmt.Sprintf("--%s: %v", e.option.Name, err))
		} else if strings.HasPrefix(strings.TrimSpace(text), "K10") {
			refused = append(refused, fmt.Sprintf("--%s %q: the token in it begins with K10, so it is for one cluster of k3s; name a file with what stands behind its last colon, or with the node-token of cleat's server",
				e.option.Name, path))
		}
	}
	return refused
}

// refusals are what cleat says of the values, before a machine is looked at.
func refusals(entries []entry, role config.Command) []string {
	load := config.Load
	if role == config.Agent {
		load = config.LoadAgent
	}
	flags := map[string][]string{"config": {os.DevNull}}
	var errs []error
	for _, e := range entries {
		if e.option == nil {
			continue
		}
		given := strings.Join(e.values, e.option.Separator())
		// What is malformed in itself would keep back what is said of the others.
		if _, err := load(map[string][]string{"config": {os.DevNull}, e.option.Name: {given}}, nil); err != nil {
			errs = append(errs, err)
			continue
		}
		flags[e.option.Name] = []string{given}
	}
	c, err := load(flags, nil)
	if err == nil {
		err = c.Validate()
	}
	if err = errors.Join(append(errs, err)...); err == nil {
		return nil
	}
	return strings.Split(err.Error(), "\n")
}
