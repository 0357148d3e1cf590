package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
)

const hidden = "[redacted]"

// OptionError says what is wrong with the value of one option.
type OptionError struct {
	Name    string // of the option
	Value   string // as given, "" for a secret
	Origin  string // which flag, variable or file line gave it
	Problem string // what is wrong and the way out
}

// Error names the option, the value, where it came from and the way out.
func (e *OptionError) Error() string {
	var b strings.Builder
	b.WriteString("--" + e.Name)
	if e.Value != "" {
		fmt.Fprintf(&b, " %q", e.Value)
	}
	if e.Origin != "" && e.Origin != "--"+e.Name {
		fmt.Fprintf(&b, " (%s)", e.Origin)
	}
	return b.String() + ": " + e.Problem
}

// Origin tells where the value of an option came from: "--<flag>", the name of
// a variable, "<file>:<line>" (several, with ", " between, for a list to which
// files appended), "default", "detected", or "" if nothing set it.
func (c *Config) Origin(name string) string { return c.origins[name] }

// String lists the options that have a value, without secrets.
func (o Options) String() string {
	var b strings.Builder
	for _, opt := range Table() {
		if values := opt.Values(&o); len(values) > 0 {
			fmt.Fprintf(&b, "%s=%s ", opt.Name, shown(opt, values))
		}
	}
	return strings.TrimSuffix(b.String(), " ")
}

// GoString is String, so that %#v prints no secret either.
func (o Options) GoString() string { return "config.Options{" + o.String() + "}" }

// LogValue is the options as log attributes, without secrets.
func (o Options) LogValue() slog.Value {
	var attrs []slog.Attr
	for _, opt := range Table() {
		if values := opt.Values(&o); len(values) > 0 {
			attrs = append(attrs, slog.String(opt.Name, shown(opt, values)))
		}
	}
	return slog.GroupValue(attrs...)
}

// MarshalJSON is an object of the options by name, without secrets. It is
// there so that a Config inside something that is encoded cannot leak.
func (o Options) MarshalJSON() ([]byte, error) {
	m := make(map[string]string)
	for _, opt := range Table() {
		if values := opt.Values(&o); len(values) > 0 {
			m[opt.Name] = shown(opt, values)
		}
	}
	return json.Marshal(m)
}

// Setting is an option as it is in force.
type Setting struct {
	Option Option
	Values []string // as Option.Shown has them
	Origin string   // as Config.Origin has it
}

// Settings returns the options of the command that have a value, in the order of
// the table and without secrets.
func (c *Config) Settings() []Setting {
	var all []Setting
	for _, o := range Table() {
		if values := o.Values(&c.Options); len(values) > 0 && (c.command == 0 || o.Commands&c.command != 0) {
			origin := c.Origin(o.Name)
			if origin == "" {
				origin = originDefault
			}
			all = append(all, Setting{Option: o, Values: o.Shown(values), Origin: origin})
		}
	}
	return all
}

// Shown is how values of the option may be printed: a secret is hidden, of an
// endpoint or another URL only the credentials are.
func (o Option) Shown(values []string) []string {
	out := make([]string, len(values))
	for i, v := range values {
		switch {
		case v == "":
		case o.Name == "datastore-endpoint", !o.Secret && strings.Contains(v, "://") && strings.Contains(v, "@"):
			v = hideCredentials(v)
		case o.Secret:
			v = hidden
		}
		out[i] = v
	}
	return out
}

func shown(o Option, values []string) string { return strings.Join(o.Shown(values), " ") }

// hideCredentials blanks what stands before the last "@" of an endpoint, and
// its query. Endpoints are in the many dialects of database drivers, so where
// the two cannot be told apart everything after the scheme goes.
func hideCredentials(endpoint string) string {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	if ok {
		scheme += "://"
	} else {
		scheme, rest = "", endpoint
	}
	at, query := strings.LastIndexByte(rest, '@'), strings.IndexByte(rest, '?')
	switch {
	case at >= 0 && query >= 0 && query < at:
		return scheme + hidden
	case query >= 0:
		rest = rest[:query+1] + hidden
	}
	if at >= 0 {
		rest = hidden + rest[at:]
	}
	return scheme + rest
}
