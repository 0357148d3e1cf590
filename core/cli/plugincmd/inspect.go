package plugincmd

import (
	"fmt"
	"io"
	"strings"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/spf13/cobra"
)

func (c *command) inspect() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "inspect FILE.wasm | NAME",
		Short: "Show what a plugin is and may ask for, without running it",
		Long: `Shows what is in a plugin, given as a file or by its name in the lock: its
points and capabilities, its configuration, the host functions that it imports, what
it exports, its memory, and for admission the requests and fields it asks for; -o
json has the whole manifest. The exit code is 1 when it does not conform to the ABI.`,
		Example: `  cleat plugin inspect cni-flannel
  cleat plugin inspect ./my-policy.wasm -o json`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output, "text"); err != nil {
				return err
			}
			wasm, err := c.readPlugin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ins, problems := pluginhost.Inspect(wasm)
			if ins == nil {
				return fmt.Errorf("%s: %w", args[0], problems)
			}
			if output == "json" {
				err = writeJSON(cmd.OutOrStdout(), report(ins))
			} else {
				err = printInspection(cmd.OutOrStdout(), ins)
			}
			if err != nil {
				return err
			}
			if problems != nil {
				return fmt.Errorf("%s does not conform to the plugin ABI:\n%w", args[0], problems)
			}
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", "text", "text or json")
	return cmd
}

// inspection is the JSON form of an inspection.
type inspection struct {
	Manifest    hostabi.Manifest `json:"manifest"`
	SHA256      string           `json:"sha256"`
	Size        int              `json:"size"`
	MemoryPages uint64           `json:"memory_pages"`
	Imports     []string         `json:"imports"`
	Exports     []string         `json:"exports"`
}

func report(ins *pluginhost.Inspection) inspection {
	r := inspection{Manifest: ins.Manifest, SHA256: ins.SHA256, Size: ins.Size, MemoryPages: ins.MemoryPages,
		Imports: []string{}, Exports: []string{}}
	for _, i := range ins.Imports {
		r.Imports = append(r.Imports, i.Module+"."+i.Name+signature(i.Kind, i.Func))
	}
	for _, e := range ins.Exports {
		r.Exports = append(r.Exports, e.Name+signature(e.Kind, e.Func))
	}
	return r
}

func signature(kind wasmfile.Kind, f wasmfile.FuncType) string {
	if kind != wasmfile.KindFunc {
		return " " + kind.String()
	}
	text := "(" + join(f.Params) + ")"
	if len(f.Results) > 0 {
		text += " -> " + join(f.Results)
	}
	return text
}

func printInspection(w io.Writer, ins *pluginhost.Inspection) error {
	m, p := ins.Manifest, &printer{w: w}
	p.linef("%s %s", m.Name, m.Version)
	if m.Description != "" {
		p.linef("%s", m.Description)
	}
	p.linef("")
	p.linef("sha256         %s", ins.SHA256)
	p.linef("size           %d bytes, starts with %d KiB of memory", ins.Size, ins.MemoryPages*64)
	p.linef("abi            %s", m.ABI)
	p.linef("points         %s", join(m.Points))
	p.linef("capabilities   %s", join(m.Capabilities))
	p.linef("on a fault     %s", m.FailurePolicy)
	if m.Admission != nil {
		printAdmission(p, *m.Admission)
	}
	if len(m.ConfigSchema) > 0 {
		p.linef("config")
		for _, key := range sortedKeys(m.ConfigSchema) {
			f := m.ConfigSchema[key]
			p.linef("  %-30s %s, default %s: %s", key, f.Type, orNone(string(f.Default)), f.Doc)
		}
	}
	r := report(ins)
	p.linef("imports")
	for _, i := range r.Imports {
		p.linef("  %s", i)
	}
	p.linef("exports")
	for _, e := range r.Exports {
		p.linef("  %s", e)
	}
	return p.err
}

func printAdmission(p *printer, a hostabi.AdmissionManifest) {
	p.linef("admission      mutates: %t, validates: %t", a.Mutate, a.Validate)
	p.linef("reads")
	for _, path := range a.ReadPaths {
		p.linef("  %s", path)
	}
	p.linef("writes")
	for _, path := range a.WritePaths {
		p.linef("  %s", path)
	}
	p.linef("asked when")
	for _, r := range a.Rules {
		p.linef("  %-20s %s of %s in %s, versions %s", r.Name, join(r.Operations), join(r.Resources), groups(r.APIGroups), join(r.APIVersions))
		if r.NamespaceSelector != nil {
			p.linef("  %-20s   namespace %s", "", selector(*r.NamespaceSelector))
		}
		for _, c := range r.MatchConditions {
			p.linef("  %-20s   %s", "", c.Expression)
		}
	}
}

func groups(all []string) string {
	named := make([]string, len(all))
	for i, g := range all {
		if named[i] = g; g == "" {
			named[i] = "core"
		}
	}
	return strings.Join(named, ",")
}

func selector(s hostabi.LabelSelector) string {
	var parts []string
	for _, k := range sortedKeys(s.MatchLabels) {
		parts = append(parts, k+"="+s.MatchLabels[k])
	}
	for _, e := range s.MatchExpressions {
		parts = append(parts, strings.TrimSpace(fmt.Sprintf("%s %s %s", e.Key, e.Operator, strings.Join(e.Values, ","))))
	}
	if len(parts) == 0 {
		return "any"
	}
	return strings.Join(parts, " and ")
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
