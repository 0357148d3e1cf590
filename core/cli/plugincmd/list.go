package plugincmd

import (
	"encoding/json"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/spf13/cobra"
)

func (c *command) list() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "Show the plugins of the lock, in the order they are asked",
		Long: `Shows the plugins of a lock file, or of the lock in the binary: what a server that
follows it will use. What a running server uses is told by
` + "`cleat kubectl get plugins`" + `. Plugins that are disabled or shadows are marked.`,
		Example: `  cleat plugin list
  cleat plugin list --plugins-lock /etc/cleat/plugins.lock -o json
  cleat plugin list -o lock >/etc/cleat/plugins.lock`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output, "table", "lock"); err != nil {
				return err
			}
			lock, _, err := c.readLock()
			if err != nil {
				return err
			}
			if output == "lock" {
				text, err := lock.Marshal()
				if err != nil {
					return err
				}
				_, err = cmd.OutOrStdout().Write(text)
				return err
			}
			if output == "json" {
				return writeJSON(cmd.OutOrStdout(), lock)
			}
			return printList(cmd.OutOrStdout(), lock)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table, json, or lock for a plugins.lock to begin with")
	return cmd
}

// shortDigest is how many digits of a digest a table shows.
const shortDigest = 12

func printList(w io.Writer, lock *pluginhost.Lock) error {
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	p := &printer{w: table}
	p.linef("POINT\tNAME\tVERSION\tSHA256\tCAPABILITIES\tSOURCE")
	for _, l := range lock.Plugins {
		name := l.Name
		switch {
		case l.Disabled:
			name += " (disabled)"
		case l.Shadow:
			name += " (shadow)"
		}
		p.linef("%s\t%s\t%s\t%s\t%s\t%s", join(l.Points), name, l.Version, l.SHA256[:shortDigest],
			capabilities(l.Capabilities), l.Source)
	}
	if p.err != nil {
		return p.err
	}
	return table.Flush()
}

func join[T ~string](values []T) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	return strings.Join(texts, ",")
}

// capabilities drops the prefix all of them share.
func capabilities(all []string) string {
	if len(all) == 0 {
		return "none"
	}
	short := make([]string, len(all))
	for i, c := range all {
		short[i] = strings.TrimPrefix(c, "cleat_")
	}
	return strings.Join(short, ",")
}

func writeJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
