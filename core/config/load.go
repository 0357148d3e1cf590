package config

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Where a value came from if no source gave it.
const (
	originDefault  = "default"
	originDetected = "detected"
)

// Load fills Options for a server from the sources, the strongest first: flags, CLEAT_…
// variables, the files of config.yaml.d in alphabetical order (later ones
// win), config.yaml, defaults. The values of a list replace those of a weaker
// source as a whole, except that a config file's "key+" appends to what
// earlier files gave.
//
// flags holds what was given on the command line by option name, environ has
// the form of os.Environ. An empty variable counts as not set. The error joins
// everything that is wrong, each naming the source and the way out; nothing
// that needs the machine is checked yet, see Detect and Validate.
func Load(flags map[string][]string, environ []string) (*Config, error) {
	return loadFor(Server, flags, environ)
}

// LoadAgent is Load for an agent: options of a server have no default, their
// variables do not count, and their keys in a config file, which a server may have
// written on the same machine, are left alone; see Foreign.
func LoadAgent(flags map[string][]string, environ []string) (*Config, error) {
	return loadFor(Agent, flags, environ)
}

func loadFor(command Command, flags map[string][]string, environ []string) (*Config, error) {
	l := loader{table: Table(), byName: make(map[string]Option), c: &Config{command: command, origins: make(map[string]string)}}
	env := make(map[string]string, len(environ))
	for _, kv := range environ {
		if k, v, ok := strings.Cut(kv, "="); ok && v != "" {
			env[k] = v
		}
	}
	for _, o := range l.table {
		l.byName[o.Name] = o
		if o.Default != "" && o.Commands&command != 0 {
			l.set(o, []string{o.Default}, originDefault)
		}
	}

	l.source(l.byName["config"], flags, env)
	named := l.c.Origin("config") != originDefault
	if len(l.errs) == 0 {
		l.files(l.c.ConfigFile, named)
	}
	for _, o := range l.table {
		if o.Name != "config" && o.Commands&command != 0 {
			l.source(o, flags, env)
		}
	}
	for name := range flags {
		switch o, ok := l.byName[name]; {
		case !ok:
			l.fail(fmt.Errorf("unknown flag --%s%s", name, l.advice("--", name)))
		case o.Commands&command == 0:
			l.fail(fmt.Errorf("--%s is an option of %s; leave it out for %s%s", name, o.Commands.Node(), command.Node(), Difference(name)))
		}
	}
	if err := errors.Join(l.errs...); err != nil {
		return nil, err
	}
	return l.c, nil
}

// UnknownEnv returns the CLEAT_… variables in environ that belong to no
// option, each with the nearest that does or "". They may be meant for
// something else, so they are worth a warning and no more.
func UnknownEnv(environ []string) map[string]string {
	var names []string
	for _, o := range Table() {
		names = append(names, o.Env())
	}
	unknown := make(map[string]string)
	for _, kv := range environ {
		name, _, _ := strings.Cut(kv, "=")
		if strings.HasPrefix(name, envPrefix) && !slices.Contains(names, name) {
			unknown[name] = Nearest(name, names)
		}
	}
	return unknown
}

type loader struct {
	table  []Option
	byName map[string]Option
	c      *Config
	errs   []error
}

func (l *loader) fail(err error) { l.errs = append(l.errs, err) }

// source takes the value of o from its variable and then from its flag.
func (l *loader) source(o Option, flags map[string][]string, env map[string]string) {
	if v, ok := env[o.Env()]; ok {
		l.set(o, []string{v}, o.Env())
	}
	if values, ok := flags[o.Name]; ok {
		l.set(o, values, "--"+o.Name)
	}
}

// files applies the config files in order.
func (l *loader) files(configFile string, named bool) {
	files, err := readFiles(configFile, named)
	if err != nil {
		l.fail(err)
	}
	// sofar holds a list's values from the files alone, and where they are
	// from: "key+" extends what earlier files gave, not the default.
	sofar := make(map[string][]string)
	from := make(map[string]string)
	for _, f := range files {
		for _, e := range f.entries {
			where := f.at(e)
			o, ok := l.byName[e.key]
			switch {
			case !ok:
				l.fail(fmt.Errorf("%s: unknown key %q%s", where, e.key, l.advice("", e.key)))
			case o.Commands&l.c.command == 0 && l.c.IsAgent():
				l.c.foreign = append(l.c.foreign, where+" "+o.Name)
			case o.Commands&l.c.command == 0:
				l.fail(fmt.Errorf("%s: %q is an option of an agent; leave it out for a server%s", where, e.key, Difference(o.Name)))
			case o.Name == "config":
				l.fail(fmt.Errorf("%s: \"config\" cannot be set in a config file; use --config or %s", where, o.Env()))
			case o.Kind() != List && e.append:
				l.fail(fmt.Errorf("%s: %q takes one value, so there is nothing to append to; write %q", where, e.key, e.key+":"))
			case o.Kind() != List && e.list:
				l.fail(fmt.Errorf("%s: %q takes one value, not a list", where, e.key))
			case e.append:
				sofar[o.Name] = slices.Concat(sofar[o.Name], e.values)
				from[o.Name] = strings.TrimPrefix(from[o.Name]+", "+where, ", ")
				l.set(o, sofar[o.Name], from[o.Name])
			default:
				sofar[o.Name], from[o.Name] = e.values, where
				l.set(o, e.values, where)
			}
		}
	}
}

func (l *loader) set(o Option, values []string, origin string) {
	for _, v := range values {
		if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' && r != '\n' || r == 0x7f }) {
			l.fail(&OptionError{Name: o.Name, Origin: origin, Problem: "holds a control character"})
			return
		}
		if strings.Contains(v, "\n") && o.Separator() != "\n" {
			l.fail(&OptionError{Name: o.Name, Origin: origin, Problem: "is more than one line"})
			return
		}
	}
	if err := o.field.set(&l.c.Options, values); err != nil {
		l.fail(&OptionError{Name: o.Name, Value: shown(o, values), Origin: origin, Problem: err.Error()})
		return
	}
	l.c.origins[o.Name] = origin
}

// advice says of a name that is no option's what k3s means by it, or which
// option was most likely meant.
func (l *loader) advice(prefix, name string) string {
	if f, ok := FindK3sFlag(name); ok {
		return ": " + f.Explain(name)
	}
	names := make([]string, len(l.table))
	for i, o := range l.table {
		names[i] = o.Name
	}
	if near := Nearest(name, names); near != "" {
		return fmt.Sprintf("; did you mean %q?", prefix+near)
	}
	return "; `cleat server --help` lists the options"
}
