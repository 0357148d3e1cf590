// Package tokencmd is the command `cleat token`: bootstrap tokens, with which
// machines join for a time, and the rotation of the servers' own token.
package tokencmd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// timeout bounds one conversation with the server.
const timeout = time.Minute

// Deps is what the command needs from its surroundings.
type Deps struct {
	// Node is the configuration of this machine's node, as far as the caller may
	// read it; of it the paths matter.
	Node   func() *config.Config
	Getenv func(name string) string
	Now    func() time.Time
	// Hide takes what was given on the command line out of the process list.
	Hide func(command string)
}

// command carries the flag every subcommand has.
type command struct {
	Deps
	kubeconfigFile string
}

// New returns the command `token`.
func New(deps Deps) *cobra.Command {
	c := &command{Deps: deps}
	cmd := &cobra.Command{
		Use:   "token",
		Short: "Make, list and delete bootstrap tokens; rotate the servers' token",
		Long: `A bootstrap token lets machines join for a time. It is worth as much as the token
in the server's node-token file, and ends by itself.

The servers' own token makes servers too, and encrypts what the datastore keeps of
the cluster's identity; rotate replaces it.`,
		Args:             cobra.NoArgs,
		RunE:             func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRun: func(cmd *cobra.Command, _ []string) { deps.Hide("token " + cmd.Name()) },
	}
	cmd.PersistentFlags().StringVar(&c.kubeconfigFile, "kubeconfig", "",
		"administrator's kubeconfig (default: $KUBECONFIG; else the one that the server on this machine writes)")
	cmd.AddCommand(c.create(), c.list(), c.delete(), c.generate(), c.rotate())
	return cmd
}

// cluster is how the administrator reaches the API server.
func (c *command) cluster() (*rest.Config, error) {
	rules := &clientcmd.ClientConfigLoadingRules{ExplicitPath: c.kubeconfigFile}
	if several := c.Getenv("KUBECONFIG"); rules.ExplicitPath == "" && several != "" {
		rules.Precedence = filepath.SplitList(several)
	} else if rules.ExplicitPath == "" {
		rules.ExplicitPath = c.Node().WriteKubeconfig
	}
	cluster, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("kubeconfig: %w: run this as root on a server, or name an administrator's with --kubeconfig", err)
	}
	cluster.Timeout = timeout
	return cluster, nil
}

// client is the administrator's, with the configuration that it is made from.
func (c *command) client() (*rest.Config, kubernetes.Interface, error) {
	cluster, err := c.cluster()
	if err != nil {
		return nil, nil, err
	}
	client, err := kubernetes.NewForConfig(cluster)
	return cluster, client, err
}

// authorities asks the server that a kubeconfig names for the certificates whose hash
// is in tokens. The connection is checked with what the kubeconfig trusts.
func authorities(cmd *cobra.Command, cluster *rest.Config) ([]byte, error) {
	return ask(cmd.Context(), rest.AnonymousClientConfig(cluster), http.MethodGet, joinapi.PathCACerts, nil)
}

// ask sends a request to the supervisor and returns the answer's body, or what the
// server says is wrong.
func ask(ctx context.Context, as *rest.Config, method, path string, content []byte) ([]byte, error) {
	client, err := rest.HTTPClientFor(as)
	if err != nil {
		return nil, err
	}
	defer client.CloseIdleConnections()
	// A redirect would carry the password elsewhere.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	req, err := http.NewRequestWithContext(ctx, method, strings.TrimSuffix(as.Host, "/")+path, bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, joinapi.MaxAnswerBody+1))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s%s: the server answers %s: %s", as.Host, path, res.Status, joinapi.ReadStatus(body))
	}
	if len(body) > joinapi.MaxAnswerBody {
		return nil, fmt.Errorf("%s%s: the answer is longer than %d bytes", as.Host, path, joinapi.MaxAnswerBody)
	}
	return body, nil
}

// maxInput is more than any token.
const maxInput = 4 << 10

// given is a secret from a flag, a file or their variables, in this order, "" if there
// is none. name is the flag's; "-" as a file is the standard input.
func (c *command) given(cmd *cobra.Command, name, flag, file string) (string, error) {
	variable := "CLEAT_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
	switch {
	case flag != "" && file != "":
		return "", fmt.Errorf("--%s and --%s-file are both given: give one", name, name)
	case flag != "":
		return flag, nil
	case file == "" && c.Getenv(variable) != "":
		return c.Getenv(variable), nil
	case file == "":
		file = c.Getenv(variable + "_FILE")
	}
	if file == "" {
		return "", nil
	}
	text, err := readSecret(cmd, file)
	if err != nil {
		return "", fmt.Errorf("--%s-file: %w", name, err)
	}
	return text, nil
}

// readSecret reads a secret from a file, or from the standard input for "-".
func readSecret(cmd *cobra.Command, file string) (string, error) {
	in := cmd.InOrStdin()
	if file != "-" {
		f, err := os.Open(file)
		if err != nil {
			return "", err
		}
		defer f.Close()
		in = f
	}
	text, err := io.ReadAll(io.LimitReader(in, maxInput+1))
	switch {
	case err != nil:
		return "", fmt.Errorf("%s: %w", file, err)
	case len(text) > maxInput:
		return "", fmt.Errorf("%s: more than %d bytes", file, maxInput)
	case strings.TrimSpace(string(text)) == "":
		return "", fmt.Errorf("%s: it is empty", file)
	}
	return strings.TrimSpace(string(text)), nil
}

// parseBootstrap reads a bootstrap token in either form.
func parseBootstrap(text string) (token.Token, error) {
	tok, err := token.Parse(text)
	if err == nil && !tok.Bootstrap {
		err = errors.New("token: no bootstrap token: want <6>.<16> lower-case letters and digits, such as `cleat token generate` prints")
	}
	return tok, err
}
