// Package scheduler runs kube-scheduler inside this process.
package scheduler

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/pflag"
	schedulerapp "k8s.io/kubernetes/cmd/kube-scheduler/app"
	"k8s.io/kubernetes/cmd/kube-scheduler/app/options"
)

// Scheduler is a scheduler whose arguments were accepted.
type Scheduler struct {
	options *options.Options
}

// New parses args, each "--flag=value" as kube-scheduler takes them.
func New(args []string) (*Scheduler, error) {
	o := options.NewOptions()
	fs := pflag.NewFlagSet("kube-scheduler", pflag.ContinueOnError)
	for _, named := range o.Flags.FlagSets {
		fs.AddFlagSet(named)
	}
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("--kube-scheduler-arg: %w", err)
	}
	if o.LeaderElection.LeaderElect && fs.Changed("leader-elect") {
		return nil, errors.New("--kube-scheduler-arg leader-elect would end the whole server when it stops; " +
			"leave it out, servers that share a datastore elect one among themselves")
	}
	return &Scheduler{options: o}, nil
}

// Run schedules pods until ctx is done.
func (s *Scheduler) Run(ctx context.Context) error {
	config, scheduler, err := schedulerapp.Setup(ctx, s.options)
	if err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	err = schedulerapp.Run(ctx, config, scheduler)
	if ctx.Err() != nil {
		return nil // upstream calls every end without leader election an error
	}
	return err
}
