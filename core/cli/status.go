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
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/kernel"
)

// statusTimeout bounds asking a server.
const statusTimeout = 5 * time.Second

// The values of -o.
const (
	outputTable = "table"
	outputJSON  = "json"
	outputYAML  = "yaml"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show the server or agent on this machine: units, plugins, addons, certificates",
		Long: `Show the units of the server that runs on this machine, its plugins with what
they decided, the addons that it deploys and when its certificates end. The exit
code is 0 if all units are ready and 1 otherwise.

With --watch, a terminal shows a table that follows the server; elsewhere there
is a line for each change, and with -o json or yaml a document. It ends, with exit
code 1, when the server does.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, outputTable, outputJSON, outputYAML)
	socket := cmd.Flags().String("socket", paths.StatusSocket, "socket of the server to ask")
	watch := cmd.Flags().BoolP("watch", "w", false, "go on showing what changes")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *watch {
			return a.watchStatus(cmd.Context(), cmd.OutOrStdout(), *socket, *output)
		}
		raw, status, err := askStatus(cmd.Context(), *socket)
		if err != nil {
			return err
		}
		if err := a.printStatus(cmd.OutOrStdout(), raw, status, *output); err != nil {
			return err
		}
		return unready(status.Units)
	}
	return cmd
}

// askStatus gets the status of the server behind a socket, also as it came.
func askStatus(ctx context.Context, socket string) ([]byte, serverstatus.Status, error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var status serverstatus.Status
	raw, err := localapi.Ask(ctx, socket, http.MethodGet, "/status")
	var gone *localapi.Unreachable
	if errors.As(err, &gone) {
		return nil, status, hinted{gone.Err, gone.Hint}
	}
	if err != nil {
		return nil, status, err
	}
	if err := json.Unmarshal(raw, &status); err != nil {
		return nil, status, fmt.Errorf("%s: the answer is not a server's status: %w", socket, err)
	}
	return raw, status, nil
}

func (a *app) printStatus(w io.Writer, raw []byte, status serverstatus.Status, output string) error {
	switch output {
	case outputJSON:
		return printJSON(w, raw)
	case outputYAML:
		return printYAML(w, raw)
	}
	for _, line := range statusTable(status, a.now()) {
		if err := fprint(w, "%s\n", line); err != nil {
			return err
		}
	}
	return nil
}

func printJSON(w io.Writer, raw []byte) error {
	var out bytes.Buffer
	if err := json.Indent(&out, bytes.TrimSpace(raw), "", "  "); err != nil {
		return err
	}
	return fprint(w, "%s\n", out.String())
}

func printYAML(w io.Writer, raw []byte) error {
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		return err
	}
	return fprint(w, "%s", text)
}

// unready is an error that names the units that are not ready, nil if all are.
func unready(units []serverstatus.Unit) error {
	var names []string
	for _, u := range units {
		if u.State != kernel.StateReady {
			names = append(names, display.Cell(u.Unit))
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
