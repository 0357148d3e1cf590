package cleanup

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
)

const (
	unitDir  = "/etc/systemd/system"
	unitName = "cleat.service"
)

// ownsUnit reports whether the administrator's unit of that name starts this program.
func (j *job) ownsUnit() bool {
	content, err := readBounded(j.at(filepath.Join(unitDir, unitName)))
	if err != nil || j.Program == "" {
		return false
	}
	for line := range strings.Lines(string(content)) {
		command, ok := strings.CutPrefix(strings.TrimSpace(line), "ExecStart=")
		if fields := strings.Fields(command); ok && len(fields) > 0 && strings.TrimLeft(fields[0], "@-:+!") == j.Program {
			return true
		}
	}
	return false
}

// unitFiles are those of the systemd unit, as an installation makes them; a
// package's are elsewhere and go with the package.
func (j *job) unitFiles() []string {
	if !j.ownsUnit() {
		return nil
	}
	unit := filepath.Join(unitDir, unitName)
	return j.present(filepath.Join(unitDir, "multi-user.target.wants", unitName), unit+".d", unit+".env", unit)
}

// stopService stops the service that runs the server, or would start it again.
// how is "" if that is not what ended the server.
func (j *job) stopService(ctx context.Context, p process) (how string, err error) {
	if !exists(j.at("/run/systemd/system")) {
		return "", nil // as sd_booted(3) finds out
	}
	unit, err := j.mainUnit(ctx, p)
	if err != nil {
		return "", err
	}
	if unit != "" {
		how = "stopped with " + unit
	} else if unit = unitName; !j.ownsUnit() {
		return "", nil
	}
	if err := j.systemctl(ctx, "stop", unit); err != nil {
		return "", err
	}
	return how, nil
}

// mainUnit is the service whose main process is p, "" if none is.
func (j *job) mainUnit(ctx context.Context, p process) (string, error) {
	for _, unit := range slices.Backward(strings.Split(p.Cgroup, "/")) {
		if !strings.HasSuffix(unit, ".service") {
			continue
		}
		pid, err := j.host.Command(ctx, "", "systemctl", "show", "--property=MainPID", "--value", unit)
		if err == nil && strings.TrimSpace(pid) == p.pid() {
			return unit, nil
		}
		if err != nil && !errors.Is(err, errNoProgram) {
			return "", err
		}
	}
	return "", nil
}

func (j *job) systemctl(ctx context.Context, args ...string) error {
	_, err := j.host.Command(ctx, "", "systemctl", args...)
	if errors.Is(err, errNoProgram) {
		return nil
	}
	return err
}
