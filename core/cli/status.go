package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/kernel"
)

// statusTimeout bounds asking a server.
const statusTimeout = 5 * time.Second

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the units of the server on this machine",
		Long: `Show the state of each unit of the server that runs on this machine. The exit
code is 0 if all are ready and 1 otherwise.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, "table", "json")
	socket := cmd.Flags().String("socket", paths.StatusSocket, "socket of the server to ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), statusTimeout)
		defer cancel()
		raw, err := askStatus(ctx, *socket)
		if err != nil {
			return err
		}
		var units []kernel.Status
		if err := json.Unmarshal(raw, &units); err != nil {
			return fmt.Errorf("%s: the answer is not a list of units: %w", *socket, err)
		}
		if *output == "json" {
			err = printJSON(cmd.OutOrStdout(), raw)
		} else {
			err = printStatus(cmd.OutOrStdout(), units, a.now())
		}
		if err != nil {
			return err
		}
		return unready(units)
	}
	return cmd
}

// askStatus gets the JSON array of kernel.Status from a server's socket.
func askStatus(ctx context.Context, socket string) ([]byte, error) {
	raw, err := localapi.Ask(ctx, socket, http.MethodGet, "/status")
	var gone *localapi.Unreachable
	if errors.As(err, &gone) {
		return nil, hinted{gone.Err, gone.Hint}
	}
	return raw, err
}

func printJSON(w io.Writer, raw []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	return fprint(w, "%s\n", out.String())
}

func printStatus(w io.Writer, units []kernel.Status, now time.Time) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "UNIT\tSTATE\tSINCE\tREADY AFTER\tWAITING FOR\tERROR")
	for _, u := range units {
		readyAfter := "-"
		if u.ReadyAfterMS != nil {
			readyAfter = (time.Duration(*u.ReadyAfterMS) * time.Millisecond).String()
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", cell(u.Unit), cell(string(u.State)), since(u.Since, now),
			readyAfter, cell(strings.Join(u.WaitingFor, ", ")), cell(detail(u)))
	}
	return t.Flush()
}

// detail is the most telling thing that is known of a unit that is not well.
func detail(u kernel.Status) string {
	switch {
	case u.Error != "":
		return u.Error
	case u.ProbeError != "":
		return u.ProbeError
	}
	return u.Progress
}

// cell makes text fit one cell of a table and harmless to a terminal.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r >= 0x7f && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}

// since is an age in the two largest units that matter.
func since(t, now time.Time) string {
	if t.IsZero() {
		return "-"
	}
	d := max(now.Sub(t), 0)
	days := int(d / (24 * time.Hour))
	switch {
	case days > 0:
		return fmt.Sprintf("%dd%dh", days, int(d.Hours())%24)
	case d >= time.Hour:
		return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
	case d >= time.Minute:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%ds", int(d.Seconds()))
}

// unready is an error that names the units that are not ready, nil if all are.
func unready(units []kernel.Status) error {
	var names []string
	for _, u := range units {
		if u.State != kernel.StateReady {
			names = append(names, cell(u.Unit))
		}
	}
	switch {
	case len(units) == 0:
		return errors.New("the server has no units yet")
	case len(names) > 0:
		return fmt.Errorf("%d of %d units not ready: %s", len(names), len(units), strings.Join(names, ", "))
	}
	return nil
}
