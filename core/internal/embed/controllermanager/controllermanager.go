// Package controllermanager runs kube-controller-manager inside this process.
package controllermanager

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/spf13/pflag"
	kcmapp "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	"k8s.io/kubernetes/cmd/kube-controller-manager/app/options"

	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
)

// Manager is a controller manager whose arguments were accepted.
type Manager struct {
	options *options.KubeControllerManagerOptions
}

// New parses args, each "--flag=value" as kube-controller-manager takes them.
func New(args []string) (*Manager, error) {
	o, err := options.NewKubeControllerManagerOptions()
	if err != nil {
		return nil, fmt.Errorf("default options: %w", err)
	}
	named := o.Flags(kcmapp.KnownControllers(), kcmapp.ControllersDisabledByDefault(), kcmapp.ControllerAliases())
	o.ParsedFlags = &named
	fs := pflag.NewFlagSet("kube-controller-manager", pflag.ContinueOnError)
	for _, set := range named.FlagSets {
		fs.AddFlagSet(set)
	}
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("--kube-controller-manager-arg: %w", err)
	}
	if o.Generic.LeaderElection.LeaderElect && fs.Changed("leader-elect") {
		return nil, errors.New("--kube-controller-manager-arg leader-elect would end the whole server when it stops; " +
			"leave it out, servers that share a datastore elect one among themselves")
	}
	return &Manager{options: o}, nil
}

// Run runs the controllers until ctx is done.
func (m *Manager) Run(ctx context.Context) error {
	config, err := m.options.Config(ctx, kcmapp.KnownControllers(), kcmapp.ControllersDisabledByDefault(), kcmapp.ControllerAliases())
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	keeping, stop := context.WithCancel(ctx)
	var kept sync.WaitGroup
	kept.Go(func() { quirks.KeepCSI(keeping) })
	err = kcmapp.Run(ctx, config.Complete())
	stop()
	kept.Wait()
	if ctx.Err() != nil {
		return nil // a start that was told to stop calls that an error, of many kinds
	}
	return err
}
