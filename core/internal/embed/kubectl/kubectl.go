// Package kubectl runs kubectl inside this process.
package kubectl

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/component-base/logs"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

// Run runs kubectl with args, without the program's name, on the process's
// standard streams, and returns its exit code; on an error that kubectl
// explains itself it ends the process, as kubectl does.
func Run(args []string) int {
	// The command, its help and its plugins look at the process's arguments.
	os.Args = append([]string{"kubectl"}, args...)
	// The verbosity counts while the command is built, before flags are parsed.
	_, err := logs.GlogSetter(cmd.GetLogVerbosity(os.Args))
	util.CheckErr(err)
	util.CheckErr(cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()))
	return 0
}
