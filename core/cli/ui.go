package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/localapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

func (a *app) uiCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ui",
		Short: "Print a link to the page that shows the server on this machine live",
		Long: `Print a link to a page of the server on this machine that shows, live, its units
and how the boot went, plugins, addons, certificates and events of the node. The
page changes nothing.

The link works once, within five minutes; the browser that opened it may look for
eight hours, or until the server stops. Who has the link may look, so treat it as a
password. Without a link, a browser that has an administrator's certificate may
look at https://SERVER:6443/v1-cleat/ui/.

The browser warns of the certificate, as it does not know the cluster's authority:
compare the SHA-256 fingerprint that is printed with the one it shows.

Where port 6443 cannot be reached, go through ssh. On your own machine:

    ssh -L 8443:127.0.0.1:6443 root@SERVER

In that session, which has to stay open:

    cleat ui --address 127.0.0.1:8443`,
		Args: noArgs,
	}
	address := cmd.Flags().String("address", "", "host, or host:port, by which the browser reaches the server (default: the server's own)")
	socket := cmd.Flags().String("socket", paths.StatusSocket, "socket of the server to ask")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		link, err := askLink(cmd.Context(), *socket)
		if err != nil {
			return err
		}
		host := net.JoinHostPort(link.Host, strconv.Itoa(link.Port))
		if *address != "" {
			if host, err = reachedBy(*address, link.Port); err != nil {
				return err
			}
		}
		// Only the link goes to standard output, so that a script can take it.
		if err := fprint(cmd.OutOrStdout(), "https://%s%s\n", host, link.Path); err != nil {
			return err
		}
		note := fmt.Sprintf("It works once, within %s.\n", time.Duration(link.ValidForS)*time.Second)
		if link.Fingerprint != "" {
			note += "SHA-256 fingerprint of the server's certificate: " + link.Fingerprint + "\n"
		}
		return fprint(cmd.ErrOrStderr(), "%s", note)
	}
	return cmd
}

// askLink has the server behind a socket make a link, and checks what it says.
func askLink(ctx context.Context, socket string) (link serverstatus.Link, err error) {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	raw, err := localapi.Ask(ctx, socket, http.MethodPost, "/ui/link")
	var gone *localapi.Unreachable
	if errors.As(err, &gone) {
		return link, hinted{gone.Err, gone.Hint}
	}
	if err != nil {
		return link, err
	}
	if err := json.Unmarshal(raw, &link); err != nil || !strings.HasPrefix(link.Path, "/") || link.Path != display.Cell(link.Path) {
		return link, fmt.Errorf("%s: the answer is not a link", socket)
	}
	return link, nil
}

// reachedBy reads --address: a host, or a host and a port. IPv6 may be bare.
func reachedBy(address string, port int) (string, error) {
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		host, text = strings.Trim(address, "[]"), strconv.Itoa(port)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil || n == 0 || host == "" || strings.ContainsAny(host, "/@?# []%\\") || net.ParseIP(host) == nil && strings.Contains(host, ":") {
		return "", fmt.Errorf("--address %q: write a host or host:port, such as 127.0.0.1:8443", address)
	}
	return net.JoinHostPort(host, text), nil
}
