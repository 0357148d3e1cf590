package cli

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
)

// given collects what was written on the command line, by option name; it is
// what config.Load takes.
type given map[string][]string

// givenValue is the pflag.Value of one option. It judges nothing: config.Load
// does, in the same words as for the other sources.
type givenValue struct {
	option config.Option
	into   given
}

func (v givenValue) String() string { return "" }
func (v givenValue) Type() string   { return v.option.Value }

func (v givenValue) Set(s string) error {
	v.into[v.option.Name] = append(v.into[v.option.Name], s)
	return nil
}

// addOptions adds a flag for each option of the command, with its one-letter
// form if short.
func addOptions(cmd *cobra.Command, of config.Command, short bool) given {
	into := make(given)
	flags := cmd.Flags()
	flags.SortFlags = false
	for _, o := range config.Table() {
		if o.Commands&of == 0 {
			continue
		}
		letter := o.Short
		if !short {
			letter = ""
		}
		f := flags.VarPF(givenValue{o, into}, o.Name, letter, o.Help)
		if o.Kind() == config.Toggle {
			f.NoOptDefVal = "true"
		}
	}
	return into
}

// hideOptions keeps the options of a server out of the help of a command that
// only looks at them: it would be a page of which two lines matter.
func hideOptions(cmd *cobra.Command) {
	for _, o := range config.Table() {
		if f := cmd.Flags().Lookup(o.Name); f != nil {
			f.Hidden = true
		}
	}
}

// optionsHelp writes the help of a command with options, in their groups. Each
// option says its default and its variable.
func optionsHelp(cmd *cobra.Command, of config.Command) {
	w := cmd.OutOrStdout()
	fmt.Fprintf(w, "%s\n\nUsage:\n  %s\n", strings.TrimSpace(cmd.Long), cmd.UseLine())
	group := ""
	for _, o := range config.Table() {
		if o.Commands&of == 0 {
			continue
		}
		if o.Group != group {
			group = o.Group
			fmt.Fprintf(w, "\n%s:\n", group)
		}
		optionHelp(w, o)
	}
	fmt.Fprintf(w, "\nEvery option is also a key of the config file, without the dashes. Of flag,\nvariable, config file and default the first that is given wins.\n")
}

// helpWidth is where lines of help end; a terminal has eighty columns.
const helpWidth = 78

func optionHelp(w io.Writer, o config.Option) {
	head := "      --" + o.Name
	if o.Short != "" {
		head = "  -" + o.Short + ", --" + o.Name
	}
	if o.Value != "" {
		head += " " + o.Value
	}
	facts := "$" + o.Env()
	switch {
	case o.Default != "" && o.Kind() != config.Toggle:
		facts += ", default " + o.Default
	case o.Found != "":
		facts += ", default: " + o.Found
	}
	if o.Kind() == config.List {
		facts += ", repeatable"
	}
	fmt.Fprintln(w, head)
	for _, text := range []string{o.Help, "[" + facts + "]"} {
		for _, line := range wrap(text, helpWidth-10) {
			fmt.Fprintln(w, "          "+line)
		}
	}
}

// wrap breaks text between words into lines of at most width bytes, longer
// words excepted.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for _, word := range strings.Fields(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
