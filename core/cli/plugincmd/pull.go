package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/internal/version"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
	"github.com/spf13/cobra"
)

// registryFlags are those of every command that talks to a registry.
type registryFlags struct {
	registries string
}

// registryHelp says how a registry is reached.
const registryHelp = `
Credentials come from registries.yaml, or else from ~/.docker/config.json. A
registry that speaks http and not https is listed in registries.yaml as a mirror of
itself, with its address http://HOST.`

const usualRegistries = paths.EtcDir + "/registries.yaml"

func (f *registryFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.registries, "private-registry", usualRegistries,
		"registries.yaml with mirrors, credentials and certificates")
}

// client returns a client that says its warnings on the command's standard error.
func (f *registryFlags) client(cmd *cobra.Command) (*pluginregistry.Client, error) {
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), nil))
	file, err := registriesfile.Read(f.registries)
	if errors.Is(err, fs.ErrPermission) && !cmd.Flags().Changed("private-registry") {
		log.Warn("registries.yaml is for root alone and is not used", "file", f.registries)
		file, err = &registriesfile.File{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("--private-registry: %w", err)
	}
	return pluginregistry.NewClient(pluginregistry.Options{
		Registries: file, Credential: pluginregistry.DockerCredential, Logger: log, UserAgent: "cleat/" + version.Cleat,
	}), nil
}

// keyFlags name the public keys that signatures are checked with.
type keyFlags struct {
	key, dir string
}

// usualKeys is where an operator puts the public keys of trusted signers.
const usualKeys = paths.PluginKeys

func (f *keyFlags) add(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.key, "key", "", "public key that must have signed it, in PEM")
	cmd.Flags().StringVar(&f.dir, "keys-dir", usualKeys, "directory of trusted public keys, *.pub")
}

// keys returns the key that was asked for, or else those that are trusted.
func (f *keyFlags) keys() ([]pluginregistry.PublicKey, error) {
	if f.key != "" {
		key, err := pluginregistry.ReadPublicKey(f.key)
		if err != nil {
			return nil, fmt.Errorf("--key: %w", err)
		}
		return []pluginregistry.PublicKey{key}, nil
	}
	return f.trusted()
}

func (f *keyFlags) trusted() ([]pluginregistry.PublicKey, error) {
	keys, err := pluginregistry.ReadPublicKeys(f.dir)
	if err != nil {
		return nil, fmt.Errorf("--keys-dir: %w", err)
	}
	return keys, nil
}

// puller is one run of `plugin pull`.
type puller struct {
	*command
	registryFlags
	keyFlags
	output string
}

func (c *command) pull() *cobra.Command {
	p := &puller{command: c}
	cmd := &cobra.Command{
		Use:   "pull oci://HOST/REPOSITORY:TAG | oci://HOST/REPOSITORY@sha256:DIGEST",
		Short: "Fetch a plugin from a registry into the plugin store",
		Long: `Fetches a plugin from an OCI registry, or one of its mirrors, and checks it down
to the last byte. It is kept in the store (` + pluginregistry.StoreName + ` in the plugins directory), where a
server finds it without a network, or written to a file with -o. The source line
printed at the end is the one for plugins.lock.

With --key the plugin must be signed by that key; else it is said which of the
trusted keys signed it, if any.
` + registryHelp,
		Example: `  cleat plugin pull oci://registry.example.com/plugins/my-policy:1.0.0
  cleat plugin pull oci://registry.example.com/plugins/my-policy:1.0.0 --key vendor.pub -o my-policy.wasm`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return p.run(cmd, args[0]) },
	}
	cmd.Flags().StringVarP(&p.output, "output", "o", "", "write the module to this file instead of the store")
	p.registryFlags.add(cmd)
	p.keyFlags.add(cmd)
	return cmd
}

func (p *puller) run(cmd *cobra.Command, arg string) error {
	ref, err := pluginregistry.ParseReference(arg)
	if err != nil {
		return err
	}
	keys, err := p.keys()
	if err != nil {
		return err
	}
	client, err := p.client(cmd)
	if err != nil {
		return err
	}
	defer client.Close()
	pulled, err := client.Pull(cmd.Context(), ref)
	if err != nil {
		return err
	}
	if _, err := pluginhost.Inspect(pulled.Artifact.Wasm); err != nil {
		return fmt.Errorf("%s does not conform to the plugin ABI:\n%w", ref, err)
	}
	signer, err := p.signer(pulled, keys)
	if err != nil {
		return err
	}
	out := &printer{w: cmd.OutOrStdout()}
	if pulled.Incomplete != nil {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: signatures or conformance reports may be missing: %v\n", pulled.Incomplete)
	}
	place := p.output
	if place == "" {
		place, err = pluginregistry.StoreIn(p.PluginsDir).Put(pulled.Artifact, pulled.Signatures, pulled.Reports)
	} else {
		err = atomicfile.WriteFile(place, pulled.Artifact.Wasm, 0o644)
	}
	if err != nil {
		return err
	}
	a := pulled.Artifact
	out.linef("%s %s", a.Plugin.Name, a.Plugin.Version)
	out.linef("manifest   %s", a.Digest)
	out.linef("sha256     %s, %d bytes", a.SHA256(), len(a.Wasm))
	out.linef("signed by  %s", signer)
	out.linef("kept in    %s", place)
	out.linef("source = '%s'", pulled.Reference.Source())
	return out.err
}

// signer says who signed the plugin; with --key it must be that key.
func (p *puller) signer(pulled *pluginregistry.Pulled, keys []pluginregistry.PublicKey) (string, error) {
	fingerprint, err := pluginregistry.VerifySignature(pulled.Artifact.Digest, pulled.Signatures, keys)
	switch {
	case err == nil:
		return pluginregistry.SignerPrefix + fingerprint, nil
	case p.key != "":
		return "", errors.Join(fmt.Errorf("%s: --key %s: %w", pulled.Reference, p.key, err), pulled.Incomplete)
	case len(pulled.Signatures) == 0:
		return "nobody", nil
	}
	return fmt.Sprintf("none of the %d keys in %s", len(keys), p.dir), nil
}

// source reads plugins from the store, and from registries if client is not nil.
func (c *command) source(client *pluginregistry.Client, keys []pluginregistry.PublicKey) *pluginregistry.Source {
	return &pluginregistry.Source{Store: pluginregistry.StoreIn(c.PluginsDir), PluginsDir: c.PluginsDir, Client: client, Keys: keys}
}

// readStored is the OCI source of commands that ask no registry.
func (c *command) readStored(ctx context.Context, reference string) ([]byte, error) {
	return c.source(nil, nil).Read(ctx, reference)
}

// isReference tells a reference from a file.
func isReference(arg string) bool { return strings.HasPrefix(arg, pluginregistry.SourcePrefix) }

// createFile writes a file that must not be there yet.
func createFile(path string, data []byte, mode fs.FileMode) (err error) {
	f, err := os.OpenFile(filepath.Clean(path), os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	return errors.Join(err, f.Chmod(mode), f.Close())
}
