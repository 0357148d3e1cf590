package containerd

import (
	"fmt"
	"os"

	"github.com/containerd/containerd/v2/cmd/ctr/app"
	"github.com/urfave/cli/v2"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// kubernetesNamespace is where the CRI keeps its images and containers.
const kubernetesNamespace = "k8s.io"

// Ctr runs containerd's administrative client and returns its exit code. args
// begins with the program's name. Unlike plain ctr it asks our own socket and
// the Kubernetes namespace unless told otherwise.
func Ctr(args []string) int {
	ctr := app.New()
	for _, f := range ctr.Flags {
		flag, ok := f.(*cli.StringFlag)
		if !ok {
			continue
		}
		switch flag.Name {
		case "address":
			flag.Value = paths.CRISocket
		case "namespace":
			flag.Value = kubernetesNamespace
		}
	}
	// The default handler exits the process for errors that carry a code.
	ctr.ExitErrHandler = func(*cli.Context, error) {}
	if err := ctr.Run(args); err != nil {
		fmt.Fprintln(os.Stderr, "ctr:", err)
		if coded, ok := err.(cli.ExitCoder); ok && coded.ExitCode() != 0 {
			return coded.ExitCode()
		}
		return 1
	}
	return 0
}
