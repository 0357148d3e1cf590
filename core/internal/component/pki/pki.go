// Package pki keeps the control plane's own certificates and kubeconfigs on
// disk: made when missing, made anew when they near their end, when their
// names change or when their authority does. A renewal keeps the key.
package pki

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/kubeconfig"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/renewal"
)

// Options are what the unit needs from its surroundings.
type Options struct {
	Config *config.Config
	Data   paths.Data
	// Identity gives the cluster's authorities; it is called when Run begins,
	// after bootstrap is ready.
	Identity func() (*certs.Identity, error)
	Log      *slog.Logger
	Now      func() time.Time // nil is time.Now
}

// PKI is the unit.
type PKI struct {
	Options
	files  Files
	keeper *renewal.Keeper

	// Of Run and what it calls.
	id    *certs.Identity
	given []byte // what was last written to --write-kubeconfig
}

// New makes the unit.
func New(o Options) *PKI {
	if o.Now == nil {
		o.Now = time.Now
	}
	p := &PKI{Options: o, files: FilesOf(o.Data)}
	var leaves []string
	for _, i := range identities(p.files, certs.Leaf{}) {
		leaves = append(leaves, i.pair.Cert)
	}
	p.keeper = renewal.New(renewal.Options{
		Certificates: leaves,
		Renew:        func(_ context.Context, all bool) error { return p.ensure(all) },
		Log:          o.Log, Now: func() time.Time { return p.Now() },
	})
	return p
}

// Files names what the unit keeps on disk. The paths are known from the start,
// the files exist once the unit is ready.
func (p *PKI) Files() Files { return p.files }

// Run makes all files, calls ready, and renews until ctx ends. Those who serve or
// use the certificates read the files again by themselves.
func (p *PKI) Run(ctx context.Context, ready func()) (err error) {
	if p.id, err = p.Identity(); err != nil {
		return err
	}
	if err := p.ensure(false); err != nil {
		return err
	}
	ready()
	p.keeper.Run(ctx)
	return nil
}

// Check fails when certificates cannot be renewed and one is about to end.
func (p *PKI) Check(context.Context) error { return p.keeper.Check() }

// Rotate has every certificate issued anew, for the keys there are.
func (p *PKI) Rotate(ctx context.Context) error { return p.keeper.Rotate(ctx) }

// ensure makes every file good, and with all every certificate anew.
func (p *PKI) ensure(all bool) error {
	sans, err := p.sans()
	if err != nil {
		return err
	}
	for _, dir := range []string{p.Data.TLS(""), p.Data.Cred("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	// One that cannot be renewed does not keep the others from it.
	var errs []error
	for _, i := range identities(p.files, sans) {
		if err := p.ensureOne(i, all); err != nil {
			errs = append(errs, fmt.Errorf("certificate of %s: %w", i.leaf.CommonName, err))
		}
	}
	return errors.Join(append(errs, p.ensureAdmin())...)
}

func (p *PKI) ensureOne(i identity, all bool) error {
	authority := map[signer]*certs.Authority{serverCA: p.id.Server, clientCA: p.id.Client, requestHeaderCA: p.id.RequestHeader}[i.signer]
	i.leaf.Life = p.Config.CertificateLifetime
	issue := authority.EnsureLeaf
	if all {
		issue = authority.ReissueLeaf
	}
	why, err := issue(i.pair.Cert, i.pair.Key, i.leaf, p.Now())
	if err != nil {
		return err
	}
	if why != "" {
		// A new cluster issues them all, a running one says which it renews.
		level := slog.LevelInfo
		if why == certs.FirstIssue {
			level = slog.LevelDebug
		}
		p.Log.Log(context.Background(), level, "certificate issued", "user", i.leaf.CommonName, "file", filepath.Base(i.pair.Cert), "why", why)
	}
	if i.kubeconfig == "" {
		return nil
	}
	// By path, so that a client that is running follows a renewal.
	text, err := kubeconfig.Config{
		Server: p.Config.ServerURL(), CAFile: p.files.ServerCA.Cert, CertFile: i.pair.Cert, KeyFile: i.pair.Key,
	}.Marshal()
	if err != nil {
		return fmt.Errorf("write %s: %w", i.kubeconfig, err)
	}
	_, err = atomicfile.WriteIfChanged(i.kubeconfig, text, 0o600)
	return err
}

// ensureAdmin writes the kubeconfigs for people. They get copied to other
// machines, so everything is in them.
func (p *PKI) ensureAdmin() error {
	c := kubeconfig.Config{Server: p.Config.ServerURL()}
	for _, f := range []struct {
		to   *[]byte
		path string
	}{{&c.CA, p.files.ServerCA.Cert}, {&c.Cert, p.files.AdminCert.Cert}, {&c.Key, p.files.AdminCert.Key}} {
		text, err := os.ReadFile(f.path)
		if err != nil {
			return err
		}
		*f.to = text
	}
	text, err := c.Marshal()
	if err != nil {
		return fmt.Errorf("write %s: %w", p.files.Admin, err)
	}
	if _, err := atomicfile.WriteIfChanged(p.files.Admin, text, 0o600); err != nil {
		return err
	}
	path := p.Config.WriteKubeconfig
	if path == "" || bytes.Equal(text, p.given) {
		return nil
	}
	// A start writes it in any case, as k3s does. While the server runs, what
	// somebody made of it stays.
	if p.given != nil {
		if now, err := os.ReadFile(path); err != nil || !bytes.Equal(now, p.given) {
			p.given = text
			p.Log.Warn("the admin kubeconfig was changed or removed by hand, so it stays as it is; its certificate was renewed",
				"file", path, "renewed", p.files.Admin)
			return nil
		}
	}
	mode := fs.FileMode(0o600)
	if text := p.Config.WriteKubeconfigMode; text != "" {
		n, err := strconv.ParseUint(text, 8, 32)
		if err != nil || n > 0o777 {
			return fmt.Errorf("--write-kubeconfig-mode %q: want octal digits such as 600 or 0644", text)
		}
		mode = fs.FileMode(n)
	}
	if mode&0o077 != 0 {
		p.Log.Warn("others on this machine can read the admin kubeconfig", "file", path, "mode", fmt.Sprintf("%#o", mode))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fmt.Errorf("--write-kubeconfig: %w", err)
	}
	if _, err := atomicfile.WriteIfChanged(path, text, mode); err != nil {
		return fmt.Errorf("--write-kubeconfig: %w", err)
	}
	if err := giveToGroup(path, p.Config.WriteKubeconfigGroup); err != nil {
		return fmt.Errorf("--write-kubeconfig-group: %w", err)
	}
	p.given = text
	return nil
}

// giveToGroup makes a group, by name or number, the owner of a file; "" leaves
// the file as it is.
func giveToGroup(path, group string) error {
	if group == "" {
		return nil
	}
	id, err := strconv.ParseUint(group, 10, 31)
	if err != nil {
		found, err := user.LookupGroup(group)
		if err != nil {
			return fmt.Errorf("%w; make it with groupadd, or give a number", err)
		}
		if id, err = strconv.ParseUint(found.Gid, 10, 31); err != nil {
			return fmt.Errorf("group %s has the number %q: %w", group, found.Gid, err)
		}
	}
	return os.Chown(path, -1, int(id))
}
