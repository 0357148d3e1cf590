package config

import (
	"fmt"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Command is a set of the commands an option belongs to.
type Command uint8

// The commands that run a node.
const (
	Server Command = 1 << iota
	Agent
)

// String is the command's name, as in `cleat server`.
func (c Command) String() string {
	return map[Command]string{Server: "server", Agent: "agent", Server | Agent: "server or agent"}[c]
}

// Node is what the command runs, for sentences.
func (c Command) Node() string {
	return map[Command]string{Server: "a server", Agent: "an agent", Server | Agent: "a node"}[c]
}

// Kind is the shape of an option's value.
type Kind uint8

// The kinds.
const (
	Text   Kind = iota
	Number      // a whole number
	Period      // a time, such as 720h or 90m
	Toggle      // true or false; a bare flag is true
	List        // may be given more than once
)

// Agreement says how far the servers of one cluster must have an option in common:
// those whose value a node is told by whichever server it asks, or that a
// controller works by which may run on any of them.
type Agreement uint8

// The agreements.
const (
	Own    Agreement = iota // each server has its own
	Common                  // equal on all servers that run at a time
	Fixed                   // as at the cluster's first start, for good
)

// Option is one row of the option table: all there is to know about one thing
// an operator may choose. Flags, CLEAT_… variables, config file keys, help,
// documentation and completion are made from it.
type Option struct {
	Name     string // flag and config file key
	Short    string // one letter, or ""
	Group    string // heading in help and documentation
	Value    string // what stands for the value in help, such as CIDR
	Default  string // as it would be written on the command line, "" if none
	Found    string // where a value that was not given comes from, "" if nowhere
	Help     string // one or two sentences
	Secret   bool   // never printed
	Commands Command
	Agree    Agreement

	field field
}

// Env is the environment variable of the option.
func (o Option) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
}

// Kind is the shape of the option's value.
func (o Option) Kind() Kind { return o.field.kind() }

// Separator is what parts the values of a List that is given as one string
// (one flag, one variable, one scalar of the config file): "," or, for values
// that hold commas themselves, a newline. It is "" for the other kinds.
func (o Option) Separator() string {
	switch o.field.(type) {
	case commas:
		return ","
	case lines:
		return "\n"
	}
	return ""
}

// Values returns the option's value in from, a list's values each on its own
// and an empty one as nil. Secrets come back as they are.
func (o Option) Values(from *Options) []string { return o.field.get(from) }

const envPrefix = "CLEAT_"

// field is the typed way from an option to its place in Options. set takes
// what one source gave, in order; later values of a single-valued option win.
type field interface {
	kind() Kind
	set(o *Options, values []string) error
	get(o *Options) []string
}

type (
	text     func(*Options) *string
	pathname func(*Options) *string // made absolute
	number   func(*Options) *int
	period   func(*Options) *time.Duration
	toggle   func(*Options) *bool
	commas   func(*Options) *[]string // a value may be several with commas between
	lines    func(*Options) *[]string // values hold commas themselves
)

func (f text) kind() Kind     { return Text }
func (f pathname) kind() Kind { return Text }
func (f number) kind() Kind   { return Number }
func (f period) kind() Kind   { return Period }
func (f toggle) kind() Kind   { return Toggle }
func (f commas) kind() Kind   { return List }
func (f lines) kind() Kind    { return List }

func (f text) set(o *Options, values []string) error {
	*f(o) = last(values)
	return nil
}

func (f pathname) set(o *Options, values []string) error {
	v := last(values)
	if v == "" {
		*f(o) = ""
		return nil
	}
	abs, err := filepath.Abs(v)
	if err != nil {
		return fmt.Errorf("cannot be made absolute (%w); write a path that starts with /", err)
	}
	*f(o) = abs
	return nil
}

func (f number) set(o *Options, values []string) error {
	n, err := strconv.Atoi(strings.TrimSpace(last(values)))
	if err != nil {
		return fmt.Errorf("not a whole number")
	}
	*f(o) = n
	return nil
}

func (f period) set(o *Options, values []string) error {
	d, err := time.ParseDuration(strings.TrimSpace(last(values)))
	if err != nil {
		return fmt.Errorf("not a time; write hours or minutes, such as 720h or 90m")
	}
	*f(o) = d
	return nil
}

func (f toggle) set(o *Options, values []string) error {
	b, err := strconv.ParseBool(strings.TrimSpace(last(values)))
	if err != nil {
		return fmt.Errorf("write true or false")
	}
	*f(o) = b
	return nil
}

func (f commas) set(o *Options, values []string) error {
	*f(o) = split(values, ",")
	return nil
}

func (f lines) set(o *Options, values []string) error {
	*f(o) = split(values, "\n")
	return nil
}

func (f text) get(o *Options) []string     { return nonEmpty(*f(o)) }
func (f pathname) get(o *Options) []string { return nonEmpty(*f(o)) }
func (f number) get(o *Options) []string   { return []string{strconv.Itoa(*f(o))} }
func (f period) get(o *Options) []string   { return []string{hours(*f(o))} }
func (f toggle) get(o *Options) []string   { return []string{strconv.FormatBool(*f(o))} }
func (f commas) get(o *Options) []string   { return *f(o) }
func (f lines) get(o *Options) []string    { return *f(o) }

// hours is a time as one writes it: 8760h, not 8760h0m0s.
func hours(d time.Duration) string {
	text := d.String()
	for _, tail := range []string{"m0s", "h0m"} {
		if strings.HasSuffix(text, tail) {
			text = text[:len(text)-2]
		}
	}
	return text
}

func last(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[len(values)-1]
}

func nonEmpty(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

func split(values []string, sep string) []string {
	var out []string
	for _, v := range values {
		for part := range strings.SplitSeq(v, sep) {
			if part = strings.TrimSpace(part); part != "" {
				out = append(out, part)
			}
		}
	}
	return out
}
