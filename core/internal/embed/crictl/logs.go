package crictl

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cri-client/pkg/logs"
)

func (a *app) logsCommand() *cobra.Command {
	var follow, previous, timestamps bool
	var tail, limit int64
	var since string
	cmd := &cobra.Command{
		Use: "logs CONTAINER-ID", Short: "Show what a container wrote", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			options := &logs.LogOptions{Follow: follow, Timestamp: timestamps}
			if tail >= 0 {
				options.TailLines = &tail
			}
			if limit >= 0 {
				options.LimitBytes = &limit
			}
			var err error
			if options.Since, err = parseSince(since, time.Now()); err != nil {
				return err
			}
			if follow && previous {
				return errors.New("--follow and --previous cannot both be given: a previous container writes no more")
			}
			return a.logs(cmd.Context(), args[0], previous, options)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on as more is written")
	f.BoolVarP(&previous, "previous", "p", false, "of the container's run before the last restart")
	f.BoolVarP(&timestamps, "timestamps", "t", false, "with the time of each line")
	f.Int64Var(&tail, "tail", -1, "only as many lines as this, the last ones")
	f.Int64Var(&limit, "limit-bytes", -1, "only as many bytes as this")
	f.StringVar(&since, "since", "", "only what is newer: a duration (5m) or a time (RFC 3339)")
	return cmd
}

func (a *app) logs(ctx context.Context, id string, previous bool, options *logs.LogOptions) error {
	runtime, err := a.runtimeService(ctx)
	if err != nil {
		return err
	}
	r, err := runtime.ContainerStatus(ctx, id, false)
	if err != nil {
		return fmt.Errorf("logs of container %s: %w", id, err)
	}
	path := r.GetStatus().GetLogPath()
	if path == "" {
		return fmt.Errorf("logs of container %s: it has no log file", id)
	}
	if previous {
		if path, err = previousPath(path); err != nil {
			return fmt.Errorf("logs of container %s: %w", id, err)
		}
	}
	err = logs.ReadLogs(ctx, path, r.GetStatus().GetId(), options, runtime, a.stdio.Out, a.stdio.Err)
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("logs of container %s: %w", id, err)
	}
	return nil
}

// previousPath returns the log file of the run before: the kubelet calls the
// files of a container 0.log, 1.log and so on.
func previousPath(path string) (string, error) {
	base := filepath.Base(path)
	ext := filepath.Ext(base)
	attempt, err := strconv.ParseUint(base[:len(base)-len(ext)], 10, 32)
	if err != nil {
		return "", fmt.Errorf("log file %s is not numbered, so that the one before cannot be found", path)
	}
	if attempt == 0 {
		return "", errors.New("the container has not been restarted")
	}
	return filepath.Join(filepath.Dir(path), strconv.FormatUint(attempt-1, 10)+ext), nil
}

// parseSince takes a duration before now or a point in time.
func parseSince(since string, now time.Time) (time.Time, error) {
	if since == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(since); err == nil {
		return now.Add(-d), nil
	}
	if t, err := time.Parse(time.RFC3339Nano, since); err == nil {
		return t, nil
	}
	return time.Time{}, fmt.Errorf("--since %q: want a duration like 5m or a time like 2006-01-02T15:04:05Z", since)
}
