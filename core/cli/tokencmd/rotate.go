package tokencmd

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// rotation is what rotate was told.
type rotation struct {
	token, tokenFile       string
	newToken, newTokenFile string
	server                 string
}

func (c *command) rotate() *cobra.Command {
	var r rotation
	cmd := &cobra.Command{
		Use:   "rotate",
		Short: "Replace the servers' token",
		Long: `Replace the token that makes servers and nodes. The server encrypts with the new
one what the datastore keeps of the cluster's identity, writes it to its token file,
and from then on takes it alone. It needs no restart. Nodes that are members go on by
their certificates.

The token in force is that of the server on this machine unless it is given. The new
one is random, and printed, unless it is given. Prefer files and variables
(CLEAT_TOKEN, CLEAT_NEW_TOKEN, and both with _FILE) to flags: everybody on this
machine may read the arguments of a process.

Servers that share a datastore are told one after the other, each with --server and the
same new token. Backups of the datastore need the token of their time.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return c.runRotate(cmd, r) },
	}
	flags := cmd.Flags()
	flags.StringVarP(&r.token, "token", "t", "", "the servers' token in force")
	flags.StringVar(&r.tokenFile, "token-file", "", "file that holds it; - is the standard input")
	flags.StringVar(&r.newToken, "new-token", "", "the new token")
	flags.StringVar(&r.newTokenFile, "new-token-file", "", "file that holds it; - is the standard input")
	flags.StringVarP(&r.server, "server", "s", "", "server to tell, https://HOST:6443 (default: that of the kubeconfig)")
	return cmd
}

func (c *command) runRotate(cmd *cobra.Command, r rotation) error {
	old, err := c.inForce(cmd, r)
	if err != nil {
		return err
	}
	text, err := c.given(cmd, "new-token", r.newToken, r.newTokenFile)
	if err != nil {
		return err
	}
	made := text == ""
	if made {
		text = token.NewPassword()
	}
	next, err := token.Parse(text)
	if err != nil {
		return fmt.Errorf("new %w", err)
	}
	cluster, err := c.cluster()
	if err != nil {
		return err
	}
	if r.server != "" {
		u, err := url.Parse(r.server)
		if err != nil || u.Scheme != "https" || u.Host == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" {
			return errors.New("--server: want https://HOST:6443")
		}
		cluster.Host = "https://" + u.Host
	}
	bundle, err := authorities(cmd, cluster)
	if err != nil {
		return err
	}
	if err := old.CheckCA(bundle); err != nil {
		return fmt.Errorf("the token in force: %w", err)
	}
	if next.CAHash, err = token.HashCA(bundle); err != nil {
		return err
	}
	advice, err := putToken(cmd, cluster, old.Password, text)
	if err != nil {
		return fmt.Errorf("rotate the token: %w", err)
	}
	cmd.PrintErrln("the token is rotated: the old one joins nobody any more")
	if advice != "" {
		cmd.PrintErrln(advice)
	}
	if made {
		next.Username = token.UserServer
		_, err = fmt.Fprintln(cmd.OutOrStdout(), next.Format())
	}
	return err
}

// inForce is the token that the cluster has now.
func (c *command) inForce(cmd *cobra.Command, r rotation) (token.Token, error) {
	text, err := c.given(cmd, "token", r.token, r.tokenFile)
	if err != nil {
		return token.Token{}, err
	}
	if text == "" {
		file := paths.Data(c.Node().DataDir).Token()
		if text, err = readSecret(cmd, file); err != nil {
			return token.Token{}, fmt.Errorf("the token in force: %w: run this as root on a server, or give it with --token-file", err)
		}
	}
	tok, err := token.Parse(text)
	if err == nil && tok.Bootstrap {
		err = errors.New("a bootstrap token cannot replace the servers' token")
	}
	if err != nil {
		return token.Token{}, fmt.Errorf("the token in force: %w", err)
	}
	return tok, nil
}

// putToken tells the server and returns what it has to say.
func putToken(cmd *cobra.Command, cluster *rest.Config, password, next string) (advice string, err error) {
	as := rest.AnonymousClientConfig(cluster)
	as.Username, as.Password = token.UserServer, password
	body, err := json.Marshal(joinapi.Rotation{NewToken: next})
	if err != nil {
		return "", err
	}
	answer, err := ask(cmd.Context(), as, http.MethodPut, joinapi.PathToken, body)
	// What a server says goes to a terminal.
	return joinapi.ReadStatus(answer), err
}
