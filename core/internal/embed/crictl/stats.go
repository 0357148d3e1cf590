package crictl

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	internalapi "k8s.io/cri-api/pkg/apis"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func (a *app) statsCommand() *cobra.Command {
	var l listFlags
	var all bool
	var seconds int
	var id, pod string
	cmd := &cobra.Command{
		Use: "stats [CONTAINER-ID]", Short: "Show what containers use", Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				id = args[0]
			}
			if seconds < 1 {
				return fmt.Errorf("--seconds %d: want 1 or more", seconds)
			}
			filter := &runtimeapi.ContainerStatsFilter{Id: id, PodSandboxId: pod, LabelSelector: l.labels}
			return a.stats(cmd.Context(), &l, filter, all || id != "", time.Duration(seconds)*time.Second)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&l.output, "output", "o", formatTable, "output format: table, json, yaml or go-template")
	f.StringVar(&l.template, "template", "", "template for --output go-template")
	f.BoolVarP(&all, "all", "a", false, "also containers that do not run")
	f.StringVar(&id, "id", "", "only the container with this ID")
	f.StringVarP(&pod, "pod", "p", "", "only those of the pod with this ID")
	f.StringToStringVar(&l.labels, "label", nil, "only those with this label, key=value")
	f.BoolVar(&l.noTrunc, "no-trunc", false, "whole IDs")
	f.IntVarP(&seconds, "seconds", "s", 1, "over how many seconds CPU use is measured")
	return cmd
}

func (a *app) stats(ctx context.Context, l *listFlags, filter *runtimeapi.ContainerStatsFilter, all bool, interval time.Duration) error {
	runtime, err := a.runtimeService(ctx)
	if err != nil {
		return err
	}
	first, err := listStats(ctx, runtime, filter)
	if err != nil {
		return err
	}
	if l.output != formatTable {
		value, err := messages("stats", first)
		if err != nil {
			return err
		}
		return a.print(l.output, l.template, value)
	}
	// CPU use is a total: a rate takes two readings.
	timer := time.NewTimer(interval)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
	}
	second, err := listStats(ctx, runtime, filter)
	if err != nil {
		return err
	}
	before := make(map[string]*runtimeapi.ContainerStats, len(first))
	for _, s := range first {
		before[s.GetAttributes().GetId()] = s
	}
	var rows [][]string
	for _, s := range second {
		cpu, ok := cpuPercent(before[s.GetAttributes().GetId()], s)
		if !ok && !all {
			continue
		}
		rows = append(rows, []string{
			cut(s.GetAttributes().GetId(), l.noTrunc), s.GetAttributes().GetMetadata().GetName(), strconv.FormatFloat(cpu, 'f', 2, 64),
			size(s.GetMemory().GetWorkingSetBytes().GetValue()), size(s.GetWritableLayer().GetUsedBytes().GetValue()),
			strconv.FormatUint(s.GetWritableLayer().GetInodesUsed().GetValue(), 10),
		})
	}
	return table(a.stdio.Out, []string{"CONTAINER", "NAME", "CPU %", "MEM", "DISK", "INODES"}, rows)
}

func listStats(ctx context.Context, runtime internalapi.RuntimeService, filter *runtimeapi.ContainerStatsFilter) ([]*runtimeapi.ContainerStats, error) {
	list, err := runtime.ListContainerStats(ctx, filter)
	if err != nil {
		return nil, fmt.Errorf("ask for container statistics: %w", err)
	}
	slices.SortStableFunc(list, func(a, b *runtimeapi.ContainerStats) int {
		return strings.Compare(a.GetAttributes().GetId(), b.GetAttributes().GetId())
	})
	return list, nil
}

// cpuPercent is the use between two readings in percent of one CPU; ok is false
// if there are not two, as with a container that does not run.
func cpuPercent(before, after *runtimeapi.ContainerStats) (percent float64, ok bool) {
	if before.GetCpu() == nil || after.GetCpu() == nil || before.GetCpu().GetUsageCoreNanoSeconds() == nil || after.GetCpu().GetUsageCoreNanoSeconds() == nil {
		return 0, false
	}
	elapsed := after.GetCpu().GetTimestamp() - before.GetCpu().GetTimestamp()
	used, was := after.GetCpu().GetUsageCoreNanoSeconds().GetValue(), before.GetCpu().GetUsageCoreNanoSeconds().GetValue()
	if elapsed <= 0 || used < was { // restarted in between
		return 0, true
	}
	return float64(used-was) / float64(elapsed) * 100, true
}
