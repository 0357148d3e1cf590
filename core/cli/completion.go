package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:   "completion bash|zsh|fish",
		Short: "Write a script that completes commands in a shell",
		Long: `Write a script that completes cleat's commands and flags, and kubectl's behind
` + "`cleat kubectl`" + `, in a shell. To have it in each new one:

  bash  cleat completion bash > /etc/bash_completion.d/cleat
  zsh   cleat completion zsh > "${fpath[1]}/_cleat"
  fish  cleat completion fish > ~/.config/fish/completions/cleat.fish`,
		ValidArgs: shells,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(shells, args[0]) {
				return fmt.Errorf("name one shell: %s", strings.Join(shells, ", "))
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			root, w := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			}
			return root.GenBashCompletionV2(w, true)
		},
	}
}
