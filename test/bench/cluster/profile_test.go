//go:build bench

package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const (
	statusSocket = "/run/cleat/status.sock" // profiles are for root alone, so they are there
	bootSeconds  = 6                        // how much of a start is profiled
	largest      = 15                       // lines of each table
)

// saveProfile writes one of the profiles that cleat serves into the logs' directory
// as soon as it serves them.
func saveProfile(name string) error {
	query := map[string]string{"boot": fmt.Sprintf("profile?seconds=%d", bootSeconds), "heap": "heap?gc=1"}[name]
	if query == "" {
		return fmt.Errorf("unknown profile %q", name)
	}
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", statusSocket)
	}}}
	ctx, cancel := context.WithTimeout(context.Background(), bootPatience)
	defer cancel()
	return poll(ctx, query, func() error {
		res, err := client.Get("http://cleat/debug/pprof/" + query)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && res.StatusCode != http.StatusOK {
			err = fmt.Errorf("%s: %s", res.Status, body)
		}
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(logs, name+".pprof"), body, 0o644)
	})
}

// TestProfile shows where cleat's own time and memory go: processor time of the
// first seconds of a cold start by unit and by package, and the heap of an idle
// server by package. The profiles are left in build/bench.
func TestProfile(t *testing.T) {
	s, err := readSettings(os.Getenv)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(resultDir, 0o755); err != nil {
		t.Fatal(err)
	}
	side := cleatSide(newLab(t))
	side.prepare(t)
	if err := os.MkdirAll(side.machine.Path(logs), 0o755); err != nil {
		t.Fatal(err)
	}
	boot := side.machine.Start(t, "boot", tool, "profile", "boot")
	starter, times := side.start(t, "cold", true)
	if err := boot.Wait(t, time.Minute); err != nil {
		t.Fatalf("%v: %s", err, boot.Log())
	}
	t.Logf("with the profiler on: %+v", times)
	time.Sleep(s.Settle) // as before the idle window
	side.machine.Must(t, tool, "profile", "heap")
	for _, name := range []string{"boot", "heap"} {
		text, err := os.ReadFile(side.machine.Path(filepath.Join(logs, name+".pprof")))
		if err == nil {
			err = os.WriteFile(filepath.Join(resultDir, name+".pprof"), text, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	stop(t, starter)
	t.Logf("processor time of a start by unit:\n%s", pprof(t, "boot", "-tags"))
	t.Logf("processor time of a start by package, in ms:\n%s", byPackage(pprof(t, "boot", "-top", "-nodecount=1000000", "-nodefraction=0", "-unit=ms")))
	t.Logf("heap in use by package, in kB:\n%s", byPackage(pprof(t, "heap", "-top", "-sample_index=inuse_space", "-nodecount=1000000", "-nodefraction=0", "-unit=kb")))
}

func pprof(t *testing.T, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", append(append([]string{"tool", "pprof"}, args...), filepath.Join(resultDir, name+".pprof"))...)
	out, err := cmd.Output()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// byPackage sums up the flat values of `pprof -top`, whose lines are flat, flat%,
// sum%, cum, cum% and the function.
func byPackage(top string) string {
	sums := map[string]float64{}
	var total float64
	for line := range strings.Lines(top) {
		fields := strings.Fields(line)
		var flat float64
		if len(fields) < 6 {
			continue
		}
		if _, err := fmt.Sscanf(fields[0], "%g", &flat); err != nil {
			continue
		}
		sums[packageOf(fields[5])] += flat
		total += flat
	}
	names := slices.SortedFunc(maps.Keys(sums), func(a, b string) int { return cmp.Compare(sums[b], sums[a]) })
	var b strings.Builder
	for _, name := range names[:min(largest, len(names))] {
		fmt.Fprintf(&b, "%10.0f %5.1f %% %s\n", sums[name], 100*sums[name]/total, name)
	}
	return b.String()
}

// packageOf is the package of a function's name, as k8s.io/api/core/v1.(*Pod).Unmarshal.
func packageOf(function string) string {
	// Type arguments hold paths of their own.
	function, _, _ = strings.Cut(function, "[")
	slash := strings.LastIndex(function, "/") + 1
	name, _, _ := strings.Cut(function[slash:], ".")
	return function[:slash] + name
}
