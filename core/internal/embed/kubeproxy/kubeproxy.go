// Package kubeproxy runs kube-proxy inside this process.
package kubeproxy

import (
	"context"
	"fmt"

	"github.com/spf13/pflag"
	proxyapp "k8s.io/kubernetes/cmd/kube-proxy/app"
)

// Proxy is a service proxy whose arguments were accepted.
type Proxy struct {
	options *proxyapp.Options
	flags   *pflag.FlagSet
}

// New parses args, each "--flag=value" as kube-proxy takes them.
func New(args []string) (*Proxy, error) {
	o := proxyapp.NewOptions()
	fs := pflag.NewFlagSet("kube-proxy", pflag.ContinueOnError)
	o.AddFlags(fs)
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("--kube-proxy-arg: %w", err)
	}
	return &Proxy{options: o, flags: fs}, nil
}

// Run keeps the node's service rules up to date until ctx is done.
func (p *Proxy) Run(ctx context.Context) error {
	if err := p.options.Complete(p.flags); err != nil {
		return fmt.Errorf("complete options: %w", err)
	}
	if err := p.options.Validate(); err != nil {
		return err
	}
	// Upstream's Run does not watch its context once the rules are kept up to
	// date, so its last goroutines end with the process.
	done := make(chan error, 1)
	go func() { done <- p.options.Run(ctx) }()
	select {
	case <-ctx.Done():
		return nil
	case err := <-done:
		return err
	}
}
