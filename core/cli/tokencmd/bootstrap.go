package tokencmd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/cleat-dev/cleat/core/cli/display"
	"github.com/cleat-dev/cleat/core/internal/bootstraptoken"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// defaultGroup is what the API server knows a machine by that comes to it with a
// bootstrap token. Nothing is granted to it.
const defaultGroup = "system:bootstrappers:cleat:default-node-token"

func (c *command) create() *cobra.Command {
	var (
		want  bootstraptoken.Token
		ttl   time.Duration
		print bool
	)
	cmd := &cobra.Command{
		Use:   "create [TOKEN]",
		Short: "Make a bootstrap token and print it",
		Long: `Make a bootstrap token and print it with the hash of the cluster's authority, which
lets a machine check the server before it sends the secret.

The token is random unless it is given; - reads it from the standard input.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if ttl < 0 {
				return fmt.Errorf("--ttl %v: want a duration such as 24h, or 0 for a token that does not end", ttl)
			}
			if ttl > 0 {
				want.Expires = c.Now().Add(ttl)
			}
			if err := chooseToken(cmd, &want, args); err != nil {
				return err
			}
			if err := want.Check(); err != nil {
				return fmt.Errorf("bootstrap token: %w", err)
			}
			return c.runCreate(cmd, want, print)
		},
	}
	flags := cmd.Flags()
	flags.DurationVar(&ttl, "ttl", 24*time.Hour, "how long the token is good; 0 is for ever")
	flags.StringSliceVar(&want.Usages, "usages", []string{"signing", "authentication"}, "what the token is good for; only with authentication it joins nodes")
	flags.StringSliceVar(&want.Groups, "groups", []string{defaultGroup}, "groups that the API server sees its holder in")
	flags.StringVar(&want.Description, "description", "", "what the token is for, as the list shows it")
	flags.BoolVar(&print, "print-join-command", false, "print the command that joins a machine instead of the token")
	return cmd
}

// chooseToken fills in id and secret.
func chooseToken(cmd *cobra.Command, t *bootstraptoken.Token, args []string) (err error) {
	if len(args) == 0 {
		t.ID, t.Secret, err = bootstraptoken.Generate()
		return err
	}
	text := args[0]
	if text == "-" {
		if text, err = readSecret(cmd, text); err != nil {
			return err
		}
	}
	tok, err := parseBootstrap(text)
	t.ID, t.Secret = tok.Username, tok.Password
	return err
}

func (c *command) runCreate(cmd *cobra.Command, t bootstraptoken.Token, join bool) error {
	cluster, client, err := c.client()
	if err != nil {
		return err
	}
	// All that may fail comes before there is a token that nobody was told of.
	bundle, err := authorities(cmd, cluster)
	if err != nil {
		return err
	}
	hash, err := token.HashCA(bundle)
	if err != nil {
		return err
	}
	server := ""
	if join {
		if server, err = serverAddress(cmd.Context(), client); err != nil {
			return err
		}
	}
	if err := bootstraptoken.Create(cmd.Context(), client, t); err != nil {
		return fmt.Errorf("make a bootstrap token: %w", err)
	}
	full := token.Token{CAHash: hash, Username: t.ID, Password: t.Secret, Bootstrap: true}.Format()
	if join {
		// A variable, since everybody on a machine may read the arguments of a process.
		full = fmt.Sprintf("CLEAT_TOKEN=%s cleat agent --server %s", full, server)
	}
	_, err = fmt.Fprintln(cmd.OutOrStdout(), full)
	return err
}

// serverAddress is where the members of the cluster reach a server.
func serverAddress(ctx context.Context, client kubernetes.Interface) (string, error) {
	slices, err := client.DiscoveryV1().EndpointSlices(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: discoveryv1.LabelServiceName + "=kubernetes"})
	if err != nil {
		return "", fmt.Errorf("look for the servers' addresses: %w", err)
	}
	for _, s := range slices.Items {
		for _, e := range s.Endpoints {
			if len(e.Addresses) > 0 && len(s.Ports) > 0 && s.Ports[0].Port != nil {
				return "https://" + net.JoinHostPort(e.Addresses[0], strconv.Itoa(int(*s.Ports[0].Port))), nil
			}
		}
	}
	return "", errors.New("the service kubernetes has no address of a server yet: try again, or leave out --print-join-command")
}

func (c *command) list() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List the bootstrap tokens, without their secrets",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if output != "text" && output != "json" {
				return fmt.Errorf("--output %q: write text or json", output)
			}
			_, client, err := c.client()
			if err != nil {
				return err
			}
			all, err := bootstraptoken.List(cmd.Context(), client)
			if err != nil {
				return fmt.Errorf("list bootstrap tokens: %w", err)
			}
			if output == "json" {
				return c.listJSON(cmd, all)
			}
			return c.listText(cmd, all)
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// listed is a token as list prints it in JSON.
type listed struct {
	ID          string     `json:"id"`
	Expires     *time.Time `json:"expires,omitempty"` // never, if it is not there
	Expired     bool       `json:"expired,omitempty"`
	Usages      []string   `json:"usages"`
	Groups      []string   `json:"groups,omitempty"`
	Description string     `json:"description,omitempty"`
}

func (c *command) listJSON(cmd *cobra.Command, all []bootstraptoken.Token) error {
	out := make([]listed, 0, len(all))
	for _, t := range all {
		l := listed{ID: t.ID, Usages: t.Usages, Groups: t.Groups, Description: t.Description}
		if !t.Expires.IsZero() {
			l.Expires, l.Expired = &t.Expires, !c.Now().Before(t.Expires)
		}
		out = append(out, l)
	}
	enc := json.NewEncoder(cmd.OutOrStdout())
	enc.SetIndent("", "  ")
	return enc.Encode(out)
}

func (c *command) listText(cmd *cobra.Command, all []bootstraptoken.Token) error {
	w := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 3, ' ', 0)
	fmt.Fprintln(w, "ID\tTTL\tEXPIRES\tUSAGES\tDESCRIPTION\tGROUPS")
	for _, t := range all {
		ttl, expires := "forever", "never"
		if !t.Expires.IsZero() {
			ttl, expires = "expired", t.Expires.UTC().Format(time.RFC3339)
			if left := t.Expires.Sub(c.Now()).Round(time.Second); left > 0 {
				ttl = left.String()
			}
		}
		cells := []string{t.ID, ttl, expires, strings.Join(t.Usages, ","), t.Description, strings.Join(t.Groups, ",")}
		for i, s := range cells {
			cells[i] = display.Cell(s)
		}
		fmt.Fprintln(w, strings.Join(cells, "\t"))
	}
	return w.Flush()
}

func (c *command) delete() *cobra.Command {
	return &cobra.Command{
		Use:   "delete ID...",
		Short: "Delete bootstrap tokens",
		Long: `Delete bootstrap tokens, by id or in full. What has joined with one stays a member:
a node goes on by its certificates.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var ids []string
			for _, arg := range args {
				id, err := idOf(arg)
				if err != nil {
					return err
				}
				ids = append(ids, id)
			}
			_, client, err := c.client()
			if err != nil {
				return err
			}
			var errs []error
			for _, id := range ids {
				if err := bootstraptoken.Delete(cmd.Context(), client, id); err != nil {
					errs = append(errs, err)
					continue
				}
				fmt.Fprintf(cmd.OutOrStdout(), "bootstrap token %s deleted\n", id)
			}
			return errors.Join(errs...)
		},
	}
}

// idOf is the id of a bootstrap token that is given by it, or in full.
func idOf(arg string) (string, error) {
	if token.IsBootstrap(arg, strings.Repeat("0", 16)) {
		return arg, nil
	}
	tok, err := parseBootstrap(arg)
	if err != nil {
		return "", errors.New("no id of a bootstrap token: want six lower-case letters and digits, as `cleat token list` shows")
	}
	return tok.Username, nil
}

func (c *command) generate() *cobra.Command {
	return &cobra.Command{
		Use:   "generate",
		Short: "Print a random bootstrap token without making it",
		Long: "Print a random bootstrap token. No cluster knows it until it is given to\n" +
			"`cleat token create -`.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			id, secret, err := bootstraptoken.Generate()
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), token.Token{Username: id, Password: secret, Bootstrap: true}.Format())
			return err
		},
	}
}
