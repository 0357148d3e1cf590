package cli

import (
	"encoding/json"
	"runtime"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cleat-dev/cleat/core/internal/version"
)

// versions is what the binary is made of, as -o json shows it.
type versions struct {
	Cleat      string `json:"cleat"`
	Kubernetes string `json:"kubernetes"`
	Containerd string `json:"containerd"`
	Runc       string `json:"runc"`
	CNIPlugins string `json:"cniPlugins"`
	CoreDNS    string `json:"coredns"`
	Go         string `json:"go"`
}

func versionCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Show the versions of this binary and its parts",
		Args:  noArgs,
	}
	output := outputFlag(cmd, "text", "json")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		v := versions{
			Cleat:      version.Cleat,
			Kubernetes: version.Kubernetes,
			Containerd: version.Containerd,
			Runc:       version.Runc,
			CNIPlugins: version.CNIPlugins,
			CoreDNS:    version.CoreDNS,
			Go:         runtime.Version(),
		}
		if *output == "json" {
			data, err := json.MarshalIndent(v, "", "  ")
			if err != nil {
				return err
			}
			return fprint(cmd.OutOrStdout(), "%s\n", data)
		}
		t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 0, 2, ' ', 0)
		for _, part := range [][2]string{
			{"cleat", v.Cleat}, {"kubernetes", v.Kubernetes}, {"containerd", v.Containerd}, {"runc", v.Runc},
			{"cni plugins", v.CNIPlugins}, {"coredns", v.CoreDNS}, {"go", v.Go},
		} {
			if err := fprint(t, "%s\t%s\n", part[0], part[1]); err != nil {
				return err
			}
		}
		return t.Flush()
	}
	return cmd
}
