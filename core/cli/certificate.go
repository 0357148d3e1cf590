package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

// rotateTimeout is more than a server takes to answer.
const rotateTimeout = 10 * time.Second

func (a *app) certificateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "certificate",
		Short: "Look at the certificates of this machine, or have them issued anew",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.certificateCheckCommand(), certificateRotateCommand())
	return cmd
}

func (a *app) certificateCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Show when the certificates of this machine end",
		Long: `Show the certificates in the data directory and when they end; nothing needs to
run. The exit code is 1 if one has ended, should have been renewed by now, or
cannot be read. Run it as root.

It takes the options of an agent, of which --data-dir says where they are.`,
		Args: noArgs,
	}
	output := outputFlag(cmd, outputTable, outputJSON, outputYAML)
	// An agent leaves a server's keys of the config file alone.
	flags := addOptions(cmd, config.Agent, false)
	hideOptions(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cfg, err := config.LoadAgent(flags, a.environ())
		if err != nil {
			return hinted{err, "`cleat agent --help` explains each option"}
		}
		data := paths.Data(cfg.DataDir)
		all := serverstatus.ReadCertificates(a.now(), data.TLS(""), data.AgentTLS(""))
		if len(all) == 0 {
			return hinted{fmt.Errorf("no certificates in %s", data), "name the directory with --data-dir; a server or an agent makes them when it starts"}
		}
		raw, err := json.Marshal(all)
		if err != nil {
			return err
		}
		if err := a.printStatus(cmd.OutOrStdout(), raw, serverstatus.Status{Certificates: all}, *output); err != nil {
			return err
		}
		bad := 0
		for _, c := range all {
			if c.State != serverstatus.CertificateOK {
				bad++
			}
		}
		if bad > 0 {
			return fmt.Errorf("%d of %d certificates need a look", bad, len(all))
		}
		return nil
	}
	return cmd
}

func certificateRotateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Have the certificates of this machine issued anew at once",
		Long: `Have what runs on this machine issue or request all its certificates anew, and
return when that is done. Nothing is restarted. The authorities stay and so do the
keys, except those whose files were removed. Only root may ask.

cleat renews its certificates by itself, so this is for a --certificate-lifetime
that was changed.`,
		Args: noArgs,
	}
	socket := cmd.Flags().String("socket", paths.StatusSocket, "socket of the server to ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), rotateTimeout)
		defer cancel()
		_, err := localapi.Ask(ctx, *socket, http.MethodPost, "/certificates/rotate")
		var gone *localapi.Unreachable
		if errors.As(err, &gone) {
			return hinted{gone.Err, gone.Hint}
		}
		if err != nil {
			return err
		}
		return fprint(cmd.OutOrStdout(), "issued anew; `cleat certificate check` shows until when\n")
	}
	return cmd
}
