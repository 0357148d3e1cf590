// Package quirks holds every process-global setting that the embedded programs
// share, and why each is needed. Each of them expects to be alone in its
// process; this is where they are told that they are not. It is the only
// package that writes package state, its own or another's.
package quirks

import (
	"fmt"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/apiserver/pkg/util/compatibility"
	utilfeature "k8s.io/apiserver/pkg/util/feature"
	"k8s.io/client-go/rest"
	logsapi "k8s.io/component-base/logs/api/v1"
	"k8s.io/component-base/metrics/legacyregistry"
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

	MendKineMigration()
	return nil
}

// PrependPath puts dir in front of the search path. containerd asks the shim
// about itself, and the shim looks for runc by name, whatever it is configured
// to run.
func PrependPath(dir string) error {
	return os.Setenv("PATH", dir+string(os.PathListSeparator)+os.Getenv("PATH"))
}

// foreignFlags is the process's flag set while HideForeignFlags keeps it away.
var foreignFlags *pflag.FlagSet

// HideForeignFlags puts an empty set in place of the process's flags. Imported
// packages register some, and cobra adds those to every command; one of them is
// a --version that takes a value, which breaks our own.
func HideForeignFlags() {
	if foreignFlags == nil {
		foreignFlags, pflag.CommandLine = pflag.CommandLine, pflag.NewFlagSet(os.Args[0], pflag.ContinueOnError)
	}
}

// ShowForeignFlags puts them back, for the kubelet, which looks them up.
func ShowForeignFlags() {
	if foreignFlags != nil {
		pflag.CommandLine, foreignFlags = foreignFlags, nil
	}
}

// AddMetrics adds metrics of our own to the ones that every embedded component
// serves, which is the one registry they all write to.
func AddMetrics(c prometheus.Collector) error {
	if err := legacyregistry.Registerer().Register(c); err != nil {
		return fmt.Errorf("metrics: %w", err)
	}
	return nil
}
