// Package configcmd is the part of `cleat config` that needs no server's
// options: taking over the configuration of another runtime.
package configcmd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/paths"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

type migration struct {
	fromK3s            bool
	role               config.Command // 0: the files tell
	k3sDir, systemdDir string
	output             string
	force              bool
}

// Migrate returns the command `migrate`.
func Migrate() *cobra.Command {
	var m migration
	cmd := &cobra.Command{
		Use:   "migrate --from-k3s",
		Short: "Write the config file of cleat that a k3s host's configuration means",
		Long: `Read the configuration of k3s on this machine and print the config file of cleat
that means the same: config.yaml and config.yaml.d, the flags and drop-ins of
k3s.service or k3s-agent.service, and its environment file. Every key that changed
or has no meaning in cleat is a comment that says why.

The unit tells whether the file is for ` + "`cleat server` or `cleat agent`" + `, and the
file says it. --agent and --agent=false choose where there are both units, or none.

With --output it is written to a file that root alone can read, with secrets,
and registries.yaml is copied beside it. k3s's files stay as they are; its data
is not read.`,
		Args: cobra.NoArgs,
	}
	flags := cmd.Flags()
	agent := flags.Bool("agent", false, "this machine is an agent of k3s, or with =false a server")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *agent {
			m.role = config.Agent
		} else if flags.Changed("agent") {
			m.role = config.Server
		}
		return m.run(cmd)
	}
	flags.BoolVar(&m.fromK3s, "from-k3s", false, "read the configuration of k3s; there is no other source yet")
	flags.StringVar(&m.k3sDir, "k3s-dir", "/etc/rancher/k3s", "directory with k3s's config.yaml and registries.yaml")
	flags.StringVar(&m.systemdDir, "systemd-dir", "/etc/systemd/system", "directory with k3s.service or k3s-agent.service")
	flags.StringVar(&m.output, "output", "", "file to write instead of printing without secrets, such as "+config.DefaultConfigFile)
	flags.BoolVar(&m.force, "force", false, "replace files that exist")
	return cmd
}

func (m *migration) run(cmd *cobra.Command) error {
	if !m.fromK3s {
		return errors.New("say where from: --from-k3s")
	}
	h, err := readHost(m.k3sDir, m.systemdDir, m.role)
	if err != nil {
		return err
	}
	entries := convert(h.found, h.role)
	registriesTo, remarks := m.registries(h, &entries)
	refused := append(refusals(entries, h.role), tokenFiles(entries)...)
	for _, r := range refused {
		remarks = append(remarks, "cleat refuses this: "+r)
	}
	text, err := render(entries, h, remarks, m.output != "")
	if err != nil {
		return err
	}
	if m.output == "" {
		fmt.Fprint(cmd.OutOrStdout(), text)
	} else if err := m.write(text, h.registries, registriesTo); err != nil {
		return err
	} else {
		fmt.Fprintf(cmd.OutOrStdout(), "%s is for `cleat %s`: this machine is %s of k3s (%s)\n", m.output, h.role, h.role.Node(), h.roleBy)
	}
	for _, r := range refused {
		cmd.PrintErrln("cleat refuses this: " + r)
	}
	return nil
}

// registries says where registries.yaml is copied to, "" for nowhere, and what
// is to be said of it. A copy that a server would not find is made an option.
func (m *migration) registries(h *host, entries *[]entry) (to string, remarks []string) {
	if h.registries == "" {
		return "", nil
	}
	for _, e := range *entries {
		if canonical(e.found.name) == "private-registry" {
			return "", nil // it names another file, which stays where it is
		}
	}
	if _, err := registriesfile.Read(h.registries); err != nil {
		remarks = append(remarks, "cleat refuses this: "+err.Error())
	}
	if m.output == "" {
		return "", append(remarks, h.registries+" has the format of "+paths.EtcDir+"/registries.yaml; --output copies it")
	}
	to = filepath.Join(filepath.Dir(m.output), "registries.yaml")
	if abs, err := filepath.Abs(to); err == nil && abs != filepath.Join(paths.EtcDir, "registries.yaml") {
		*entries = append(*entries, convert([]found{{name: "private-registry", values: []string{abs}, origin: "a copy of " + h.registries}}, h.role)...)
	}
	return to, append(remarks, to+" is a copy of "+h.registries)
}

// write makes both files or, if one is there already and --force is not, none.
func (m *migration) write(text, registries, registriesTo string) error {
	targets := map[string]string{m.output: text}
	if registriesTo != "" {
		content, err := readSmall(registries)
		if err != nil {
			return err
		}
		targets[registriesTo] = content
	}
	if !m.force {
		for path := range targets {
			if exists(path) {
				return fmt.Errorf("%s exists; move it away, or replace it with --force", path)
			}
		}
	}
	if err := os.MkdirAll(filepath.Dir(m.output), 0o755); err != nil {
		return err
	}
	for path, content := range targets {
		if err := atomicfile.WriteFile(path, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
