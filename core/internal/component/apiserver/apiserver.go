// Package apiserver is the unit of kube-apiserver. It has no port: the
// supervisor serves its handler behind paths of its own.
package apiserver

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/healthprobe"
	"github.com/cleat-dev/cleat/core/kernel"
)

// Component is the unit. Make it with New.
type Component struct {
	cfg   *config.Config
	files Files
	open  func()
	run   func(ctx context.Context) error
}

// New returns the unit; run runs the API server until its context is done and
// has the supervisor serve it meanwhile; open is called just before the unit is
// ready.
func New(cfg *config.Config, files Files, open func(), run func(ctx context.Context) error) *Component {
	return &Component{cfg: cfg, files: files, open: open, run: run}
}

// Run runs the API server; it is ready when /readyz, asked on the port that
// every client uses, says so of everything but the units, most of which wait
// for this one.
func (c *Component) Run(ctx context.Context, ready func()) error {
	if err := os.MkdirAll(filepath.Dir(c.files.AuthenticationConfig), 0o700); err != nil {
		return fmt.Errorf("authentication configuration: %w", err)
	}
	if err := os.WriteFile(c.files.AuthenticationConfig, []byte(authenticationConfig), 0o600); err != nil {
		return fmt.Errorf("authentication configuration: %w", err)
	}
	probe, err := c.prober()
	if err != nil {
		return err
	}
	defer probe.Close()
	return kernel.RunProbed(ctx, func() { c.open(); ready() }, c.run, 50*time.Millisecond, probe.Check)
}

// Check asks the API server how it is.
func (c *Component) Check(ctx context.Context) error {
	probe, err := c.prober()
	if err != nil {
		return err
	}
	defer probe.Close()
	return probe.Check(ctx)
}

func (c *Component) prober() (*healthprobe.Prober, error) {
	ca, err := os.ReadFile(c.files.ServerCA)
	if err != nil {
		return nil, fmt.Errorf("server authority: %w", err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%s holds no certificate", c.files.ServerCA)
	}
	// With a certificate, because an operator may refuse anonymous requests.
	client, err := tls.LoadX509KeyPair(c.files.KubeletClient.Cert, c.files.KubeletClient.Key)
	if err != nil {
		return nil, fmt.Errorf("client certificate of the API server: %w", err)
	}
	return healthprobe.New(c.cfg.ServerURL()+"/readyz?verbose&exclude="+healthprobe.UnitGroup, &tls.Config{
		RootCAs: roots, Certificates: []tls.Certificate{client}, MinVersion: tls.VersionTLS12,
	}), nil
}
