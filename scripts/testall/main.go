// Command testall runs the tests of every module of the repository, those of
// the kernel and other std-only packages again under the race detector and, as
// root, the cluster tests and a sample of upstream's conformance specs. It
// prints what failed and ends with one line:
//
//	N passed, N failed
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ldflags := flag.String("ldflags", "", "`flags` for the linker, the same for all")
	only := flag.String("only", "", "run only the steps whose name contains this `text`")
	flag.Parse()
	code, err := run(ctx, *ldflags, *only)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testall:", err)
		code = 1
	}
	os.Exit(code)
}

// The tests that need root: their build tag hides them from the other steps.
const (
	conformance = "./test/conformance-k8s" // a sample of upstream's specs
	clusterTag  = "e2e"
)

var clusterTests = [...]string{"./test/e2e/...", "./test/install/..."}

// clustersAtOnce is how many of the tests that only wait most of the time run side by
// side: more would need more instances of inotify than a kernel allows a user.
const clustersAtOnce = "2"

// raced are the packages whose concurrency the race detector checks: those
// that start goroutines and compile in seconds.
var raced = [...]string{"./core/kernel/...", "./core/internal/extract/..."}

// step is one run of go test.
type step struct {
	name string
	dir  string
	args []string
	env  []string
}

func run(ctx context.Context, ldflags, only string) (code int, err error) {
	steps, err := plan(ctx, ldflags)
	if err != nil {
		return 1, err
	}
	var total summary
	for _, s := range steps {
		if !strings.Contains(s.name, only) {
			continue
		}
		started := time.Now()
		got, err := s.run(ctx, os.Stdout)
		if err != nil {
			return 1, fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Printf("%-32s %5d passed %3d failed  %6.1f s\n", s.name, got.passed, len(got.failed), time.Since(started).Seconds())
		total.add(s.name, got)
	}
	if os.Geteuid() != 0 {
		fmt.Printf("the cluster tests, %s %s, were left out: they need root\n", strings.Join(clusterTests[:], " "), conformance)
	}
	for i, name := range total.failed {
		fmt.Println("failed:", name)
		if total.reasons[i] != "" {
			fmt.Println(total.reasons[i])
		}
	}
	for _, name := range total.skipped {
		fmt.Println("skipped:", name)
	}
	fmt.Printf("%d passed, %d failed\n", total.passed, len(total.failed))
	if len(total.failed) > 0 || total.passed == 0 {
		return 1, nil
	}
	return 0, nil
}

// plan lists the steps, quick ones first.
func plan(ctx context.Context, ldflags string) ([]step, error) {
	dirs, err := modules(".")
	if err != nil {
		return nil, err
	}
	// One lint step runs vet; here it would analyse all of Kubernetes again.
	common := []string{"-vet=off", "-ldflags", ldflags}
	everything := []string{"./..."}
	var steps []step
	for _, dir := range dirs {
		if ours, err := hasPackages(ctx, dir); err != nil {
			return nil, err
		} else if ours && dir != "." {
			steps = append(steps, step{name: dir, dir: dir, args: slices.Concat(common, everything)})
		}
	}
	steps = append(steps,
		step{name: "race detector", dir: ".", args: slices.Concat([]string{"-vet=off", "-race"}, raced[:]), env: []string{"CGO_ENABLED=1"}},
		step{name: "core", dir: ".", args: slices.Concat([]string{"-timeout=20m"}, common, everything)},
	)
	if os.Geteuid() == 0 {
		steps = append(steps, step{name: "clusters", dir: ".", args: slices.Concat(
			[]string{"-tags=" + clusterTag, "-timeout=55m", "-p=1", "-parallel=" + clustersAtOnce, "-count=1"}, common, clusterTests[:])},
			step{name: "conformance sample", dir: ".", args: slices.Concat(
				[]string{"-tags=" + clusterTag, "-timeout=25m", "-count=1"}, common, []string{conformance})})
	}
	return steps, nil
}

// modules returns the directories below root that have a go.mod.
func modules(root string) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		switch base := d.Name(); {
		case err != nil:
			return err
		case d.IsDir() && (base == "testdata" || name == "build" || name == ".git"):
			return fs.SkipDir
		case base == "go.mod":
			dirs = append(dirs, path.Dir(filepath.ToSlash(name)))
		}
		return nil
	})
	return dirs, err
}

// hasPackages reports whether the module in dir has code of ours; some only pin
// programs.
func hasPackages(ctx context.Context, dir string) (bool, error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-e", "./...")
	cmd.Dir = dir
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			err = fmt.Errorf("%w\n%s", err, exit.Stderr)
		}
		return false, fmt.Errorf("go list in %s: %w", dir, err)
	}
	return len(strings.Fields(string(out))) > 0, nil
}
