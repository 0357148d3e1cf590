// Package pki keeps the control plane's own certificates and kubeconfigs on
// disk: made when missing, made anew when they near their end, when their
// names change or when their authority does. A renewal keeps the key.
package pki

import (
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
)

// renewEvery is how often a running server looks for certificates to renew.
// Those who serve or use them read the files again by themselves.
const renewEvery = 12 * time.Hour

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
	files Files
}

// New makes the unit.
func New(o Options) *PKI {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &PKI{Options: o, files: FilesOf(o.Data)}
}

// Files names what the unit keeps on disk. The paths are known from the start,
// the files exist once the unit is ready.
func (p *PKI) Files() Files { return p.files }

// Run makes all files, calls ready, and renews until ctx ends. A renewal that
// fails is logged and tried again: the old certificates have months to go.
func (p *PKI) Run(ctx context.Context, ready func()) error {
	id, err := p.Identity()
	if err != nil {
		return err
	}
	if err := p.ensure(id); err != nil {
		return err
	}
	ready()
	tick := time.NewTicker(renewEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			if err := p.ensure(id); err != nil {
				p.Log.Error("renewing certificates failed, next try in "+renewEvery.String(), "error", err)
			}
		}
	}
}

func (p *PKI) ensure(id *certs.Identity) error {
	sans, err := p.sans()
	if err != nil {
		return err
	}
	for _, dir := range []string{p.Data.TLS(""), p.Data.Cred("")} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	server := p.Config.ServerURL()
	for _, i := range identities(p.files, sans) {
		authority := map[signer]*certs.Authority{serverCA: id.Server, clientCA: id.Client, requestHeaderCA: id.RequestHeader}[i.signer]
		why, err := authority.EnsureLeaf(i.pair.Cert, i.pair.Key, i.leaf, p.Now())
		if err != nil {
			return fmt.Errorf("certificate of %s: %w", i.leaf.CommonName, err)
		}
		if why != "" {
			// A new cluster issues them all, a running one says which it renews.
			level := slog.LevelInfo
			if why == certs.FirstIssue {
				level = slog.LevelDebug
			}
			p.Log.Log(context.Background(), level, "certificate issued", "user", i.leaf.CommonName, "why", why)
		}
		if i.kubeconfig == "" {
			continue
		}
		// By path, so that a client that is running follows a renewal.
		err = p.writeKubeconfig(i.kubeconfig, 0o600, kubeconfig.Config{
			Server: server, CAFile: p.files.ServerCA.Cert, CertFile: i.pair.Cert, KeyFile: i.pair.Key,
		})
		if err != nil {
			return err
		}
	}
	return p.ensureAdmin(server)
}

// ensureAdmin writes the kubeconfigs for people. They get copied to other
// machines, so everything is in them.
func (p *PKI) ensureAdmin(server string) error {
	c := kubeconfig.Config{Server: server}
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
	if err := p.writeKubeconfig(p.files.Admin, 0o600, c); err != nil {
		return err
	}
	path := p.Config.WriteKubeconfig
	if path == "" {
		return nil
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
	if err := p.writeKubeconfig(path, mode, c); err != nil {
		return fmt.Errorf("--write-kubeconfig: %w", err)
	}
	if err := giveToGroup(path, p.Config.WriteKubeconfigGroup); err != nil {
		return fmt.Errorf("--write-kubeconfig-group: %w", err)
	}
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

func (p *PKI) writeKubeconfig(path string, mode fs.FileMode, c kubeconfig.Config) error {
	text, err := c.Marshal()
	if err != nil {
		return errors.Join(fmt.Errorf("write %s", path), err)
	}
	_, err = atomicfile.WriteIfChanged(path, text, mode)
	return err
}
