package plugincmd

import (
	"fmt"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/core/pluginregistry"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/spf13/cobra"
)

func (c *command) push() *cobra.Command {
	var (
		flags  registryFlags
		report string
	)
	cmd := &cobra.Command{
		Use:   "push FILE.wasm oci://HOST/REPOSITORY:TAG",
		Short: "Put a plugin into a registry",
		Long: `Puts a plugin into an OCI registry, in the layout of the CNCF for Wasm. The same
file always gets the same digest. The plugin goes to the registry itself, never
to a mirror; a tag that exists moves to it.
` + registryHelp + `

With --report a conformance report is attached, as a referrer of the plugin.`,
		Example: `  cleat plugin push my-policy.wasm oci://registry.example.com/plugins/my-policy:1.0.0
  cleat plugin push my-policy.wasm oci://registry.example.com/plugins/my-policy:1.0.0 --report report.yaml`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			ref, err := pluginregistry.ParseReference(args[1])
			if err != nil {
				return err
			}
			wasm, err := pluginhost.ReadFile(args[0], wasmfile.MaxBytes)
			if err != nil {
				return fmt.Errorf("read the plugin: %w", err)
			}
			if _, err := pluginhost.Inspect(wasm); err != nil {
				return fmt.Errorf("%s does not conform to the plugin ABI:\n%w", args[0], err)
			}
			artifact, err := pluginregistry.NewArtifact(wasm)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			text, err := readReport(report, artifact)
			if err != nil {
				return err
			}
			client, err := flags.client(cmd)
			if err != nil {
				return err
			}
			defer client.Close()
			pushed, err := client.Push(cmd.Context(), ref, artifact)
			if err != nil {
				return err
			}
			out := &printer{w: cmd.OutOrStdout()}
			out.linef("%s %s", artifact.Plugin.Name, artifact.Plugin.Version)
			out.linef("manifest   %s", artifact.Digest)
			out.linef("sha256     %s, %d bytes", artifact.SHA256(), len(artifact.Wasm))
			if text != nil {
				if _, err := client.PushReport(cmd.Context(), pushed, artifact, text); err != nil {
					return err
				}
				out.linef("report     %s", pluginhost.Digest(text))
			}
			out.linef("source = '%s'", pushed.Source())
			return out.err
		},
	}
	cmd.Flags().StringVar(&report, "report", "", "conformance report to attach, as 'cleat plugin verify --report' writes it")
	flags.add(cmd)
	return cmd
}

// readReport reads a report of that very plugin; no file is no report.
func readReport(path string, a *pluginregistry.Artifact) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	text, err := pluginhost.ReadFile(path, pluginregistry.MaxReportBytes)
	if err != nil {
		return nil, fmt.Errorf("--report: %w", err)
	}
	r, err := conformance.ParseReport(text)
	if err != nil {
		return nil, fmt.Errorf("--report: %s: %w", path, err)
	}
	if r.Plugin.SHA256 != a.SHA256() {
		return nil, fmt.Errorf("--report: %s is about the plugin with SHA-256 %s, not %s; check this one", path, r.Plugin.SHA256, a.SHA256())
	}
	return text, nil
}
