// Package quirks holds every process-global setting that the embedded programs
// share, and why each is needed. Each of them expects to be alone in its
// process; this is where they are told that they are not. It is the only
// package that writes package state, its own or another's.
package quirks

import (
	"fmt"
	"os"

	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
)

// Settle fixes the feature gates and versions that all Kubernetes components
// share. Call it once: after the arguments of every component were parsed,
// because each of them writes its --feature-gates into one registry, and
// before any of them runs, because they read the gates while they start.
func Settle() error {
	if err := compatibility.DefaultComponentGlobalsRegistry.Set(); err != nil {
		return fmt.Errorf("feature gates: %w", err)
	}
	utilfeature.DefaultMutableFeatureGate.AddMetrics()
	compatibility.DefaultComponentGlobalsRegistry.AddMetrics()

	// Components apply a logging configuration of their own where they start;
	// the second to do so would fail. Package quirks decides where logs go.
	logsapi.ReapplyHandling = logsapi.ReapplyHandlingIgnoreUnchanged

	// The API server's warnings are for people; loopback clients of our own
	// would only repeat them in the log.
	rest.SetDefaultWarningHandler(rest.NoWarnings{})
	return nil
}

// PrependPath puts dir in front of the search path. containerd asks the shim
// about itself, and the shim looks for runc by name, whatever it is configured
// to run.
func PrependPath(dir string) error {
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// HideForeignFlags empties the process's flag set. Imported packages register
// flags in it (one of them --version), and cobra would offer those as options
// of every command.
func HideForeignFlags() {
	pflag.CommandLine = pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
}
