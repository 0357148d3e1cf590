package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/cleat-dev/cleat/core/cli/configcmd"
	"github.com/cleat-dev/cleat/core/config"
)

func (a *app) configCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "config",
		Short: "Show the configuration in force, or take over that of k3s",
		Args:  cobra.ArbitraryArgs, // an unknown command is answered by us
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return cmd.Help()
		},
	}
	cmd.AddCommand(a.configShowCommand(), configcmd.Migrate())
	return cmd
}

func (a *app) configShowCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Show the options that a server or an agent would have, and where each is from",
		Long: `Show the options that a server started with these flags, in this environment
and on this machine would have. Secrets are redacted; but for them the yaml is a
config file. Nothing is started and nothing is written.

It takes the options of a server, which ` + "`cleat server --help`" + ` explains, or
with --agent those of an agent, and shows what an agent would have.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, "yaml", "json", "table")
	origin := cmd.Flags().Bool("origin", false, "say where each value is from: default, detected, a file and line, a variable or a flag")
	options := addRoleOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		r, cfg, err := options.load(a.environ())
		if err != nil {
			return err
		}
		for _, where := range cfg.Foreign() {
			cmd.PrintErrln("an option of a server, left alone: " + where)
		}
		// What cannot be found out, or is wrong, is no reason to keep the rest back.
		wrong := a.detect(cmd.Context(), cfg)
		if wrong == nil {
			wrong = cfg.Validate()
		}
		write := map[string]func(io.Writer, []config.Setting, bool) error{"yaml": settingsYAML, "json": settingsJSON, "table": settingsTable}[*output]
		if err := write(cmd.OutOrStdout(), cfg.Settings(), *origin); err != nil {
			return err
		}
		if wrong != nil {
			return hinted{wrong, r.of.Node() + " would not start with this"}
		}
		return nil
	}
	return cmd
}

func settingsTable(w io.Writer, settings []config.Setting, origin bool) error {
	tw := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	head, format := "OPTION\tVALUE\n", "%s\t%s\n"
	if origin {
		head, format = "OPTION\tVALUE\tORIGIN\n", "%s\t%s\t%s\n"
	}
	fmt.Fprint(tw, head)
	for _, s := range settings {
		cells := []any{s.Option.Name, strings.Join(s.Values, " ")}
		if origin {
			cells = append(cells, s.Origin)
		}
		fmt.Fprintf(tw, format, cells...)
	}
	return tw.Flush()
}

// settingsJSON writes an object with a value for each option, typed as in the
// config file; with origins each is an object of value and origin.
func settingsJSON(w io.Writer, settings []config.Setting, origin bool) error {
	all := make(map[string]any, len(settings))
	for _, s := range settings {
		var value any
		if err := settingNode(s).Decode(&value); err != nil {
			return fmt.Errorf("%s: %w", s.Option.Name, err)
		}
		if origin {
			value = map[string]any{"value": value, "origin": s.Origin}
		}
		all[s.Option.Name] = value
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	return enc.Encode(all)
}

// settingsYAML writes a config file, with origins in comments.
func settingsYAML(w io.Writer, settings []config.Setting, origin bool) error {
	doc := &yaml.Node{Kind: yaml.MappingNode}
	for _, s := range settings {
		if s.Option.Name == "config" { // which a config file cannot say
			if _, err := fmt.Fprintf(w, "# Config file: %s (%s)\n", strings.Join(s.Values, ""), s.Origin); err != nil {
				return err
			}
			continue
		}
		key, value := &yaml.Node{Kind: yaml.ScalarNode, Value: s.Option.Name}, settingNode(s)
		if origin && value.Kind == yaml.SequenceNode {
			key.HeadComment = "# " + s.Origin
		} else if origin {
			value.LineComment = "# " + s.Origin
		}
		doc.Content = append(doc.Content, key, value)
	}
	enc := yaml.NewEncoder(w)
	enc.SetIndent(2)
	if err := enc.Encode(doc); err != nil {
		return err
	}
	return enc.Close()
}

func settingNode(s config.Setting) *yaml.Node {
	tag := map[config.Kind]string{config.Number: "!!int", config.Toggle: "!!bool"}[s.Option.Kind()]
	if tag == "" {
		tag = "!!str"
	}
	if s.Option.Kind() != config.List {
		return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: strings.Join(s.Values, " ")}
	}
	list := &yaml.Node{Kind: yaml.SequenceNode}
	for _, v := range s.Values {
		list.Content = append(list.Content, &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: v})
	}
	return list
}
