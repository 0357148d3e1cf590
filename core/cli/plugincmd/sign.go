package plugincmd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/pluginarchive"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/spf13/cobra"
	"golang.org/x/term"
)

// passwordVariable is what cosign reads the password of a key from.
const passwordVariable = "COSIGN_PASSWORD"

// signerFlags name a private key.
type signerFlags struct {
	key, passwordFile string
}

func (f *signerFlags) add(cmd *cobra.Command, usage string) {
	cmd.Flags().StringVar(&f.key, "key", "", usage)
	cmd.Flags().StringVar(&f.passwordFile, "password-file", "", "file with the password of the key (default: $"+passwordVariable+", or a prompt)")
}

func (f *signerFlags) signer(cmd *cobra.Command) (*pluginregistry.Signer, error) {
	if info, err := os.Stat(f.key); err == nil && info.Mode().Perm()&0o077 != 0 {
		_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "warning: others than you may read the private key %s; chmod 600 it\n", f.key)
	}
	signer, err := pluginregistry.ReadSigner(f.key, func() ([]byte, error) { return f.password(cmd, false) })
	if err != nil {
		return nil, fmt.Errorf("--key: %w", err)
	}
	return signer, nil
}

const maxPassword = 4096

// password comes from the file, the variable or the terminal, never from an
// argument, which everybody on the machine can read.
func (f *signerFlags) password(cmd *cobra.Command, twice bool) ([]byte, error) {
	if f.passwordFile != "" {
		text, err := pluginhost.ReadFile(f.passwordFile, maxPassword)
		if err != nil {
			return nil, fmt.Errorf("--password-file: %w", err)
		}
		return bytes.TrimRight(text, "\r\n"), nil
	}
	if text, ok := os.LookupEnv(passwordVariable); ok {
		return []byte(text), nil
	}
	in, ok := cmd.InOrStdin().(*os.File)
	if !ok || !term.IsTerminal(int(in.Fd())) {
		return nil, fmt.Errorf("the key needs a password: set $%s (it may be empty) or give --password-file", passwordVariable)
	}
	first, err := prompt(cmd.ErrOrStderr(), in, "password of the private key: ")
	if err != nil || !twice {
		return first, err
	}
	again, err := prompt(cmd.ErrOrStderr(), in, "the same once more: ")
	if err == nil && !bytes.Equal(first, again) {
		err = errors.New("the two passwords differ")
	}
	return first, err
}

func prompt(w io.Writer, in *os.File, text string) ([]byte, error) {
	_, _ = fmt.Fprint(w, text)
	password, err := term.ReadPassword(int(in.Fd()))
	_, _ = fmt.Fprintln(w)
	return password, err
}

func (c *command) sign() *cobra.Command {
	var (
		registry registryFlags
		flags    signerFlags
		generate string
	)
	cmd := &cobra.Command{
		Use:   "sign oci://HOST/REPOSITORY:TAG | FILE --key PRIVATE-KEY",
		Short: "Sign a plugin in a registry, or a file",
		Long: `Signs a plugin in a registry the way cosign does with a key, so that
"cosign verify --key" accepts it too. A tag is resolved first; what is signed is
the digest of the manifest. A file is signed as "cosign sign-blob" does it, into
FILE` + pluginarchive.SignatureSuffix + ` beside it.

Keys are ECDSA, Ed25519 or RSA in PEM, as cosign writes them or as PKCS #8.
--generate-key makes a pair, PREFIX.key and PREFIX.pub. The password of a key
comes from $` + passwordVariable + `, from --password-file or from a prompt.
` + registryHelp,
		Example: `  cleat plugin sign --generate-key vendor
  cleat plugin sign oci://registry.example.com/plugins/my-policy:1.0.0 --key vendor.key
  cleat plugin sign plugins.tar.zst --key vendor.key`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			out := &printer{w: cmd.OutOrStdout()}
			switch {
			case generate != "" && (len(args) > 0 || flags.key != ""):
				return errors.New("--generate-key makes a key and signs nothing; sign with a second command")
			case generate != "":
				return flags.generate(cmd, out, generate)
			case len(args) == 0:
				return errors.New("name what to sign: oci://HOST/REPOSITORY:TAG or a file")
			case flags.key == "":
				return errors.New("--key: name the private key; `cleat plugin sign --generate-key PREFIX` makes one")
			}
			signer, err := flags.signer(cmd)
			if err != nil {
				return err
			}
			if !isReference(args[0]) {
				return signFile(out, args[0], signer)
			}
			ref, err := pluginregistry.ParseReference(args[0])
			if err != nil {
				return err
			}
			client, err := registry.client(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			signed, added, err := client.Sign(cmd.Context(), ref, signer)
			if err != nil {
				return err
			}
			if !added {
				out.linef("%s was signed by this key before", signed)
			} else {
				out.linef("signed %s", signed)
			}
			out.linef("signer = '%s'", signer.Public.Signer())
			return out.err
		},
	}
	cmd.Flags().StringVar(&generate, "generate-key", "", "make PREFIX.key and PREFIX.pub")
	flags.add(cmd, "private key to sign with, in PEM")
	registry.add(cmd)
	return cmd
}

// signFile writes the signature of a file beside it.
func signFile(out *printer, path string, signer *pluginregistry.Signer) (err error) {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sig, err := signer.SignBlob(f)
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	if err := atomicfile.WriteFile(path+pluginarchive.SignatureSuffix, sig, 0o644); err != nil {
		return err
	}
	out.linef("signed %s, in %s%s", path, path, pluginarchive.SignatureSuffix)
	out.linef("signer = '%s'", signer.Public.Signer())
	return out.err
}

func (f *signerFlags) generate(cmd *cobra.Command, out *printer, prefix string) error {
	password, err := f.password(cmd, true)
	if err != nil {
		return err
	}
	private, public, err := pluginregistry.GenerateKey(password)
	if err != nil {
		return err
	}
	key, err := pluginregistry.ParsePublicKey(public)
	if err != nil {
		return err
	}
	if err := createFile(prefix+".key", private, 0o600); err != nil {
		return fmt.Errorf("--generate-key: %w", err)
	}
	if err := createFile(prefix+".pub", public, 0o644); err != nil {
		return fmt.Errorf("--generate-key: %w; %s.key is new and has no public half: remove it", err, prefix)
	}
	out.linef("%s.key   private; keep it, and its password, to yourself", prefix)
	out.linef("%s.pub   public; operators put it in %s", prefix, usualKeys)
	out.linef("signer = '%s'", key.Signer())
	return out.err
}
