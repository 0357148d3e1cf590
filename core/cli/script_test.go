package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/kernel"
)

func TestMain(m *testing.M) {
	run := func() { os.Exit(testApp().main(os.Args, os.Stdin, os.Stdout, os.Stderr)) }
	testscript.Main(m, map[string]func(){"cleat": run, "kubectl": run, "ctr": run, "crictl": run})
}

// TestScripts runs the scripts of the real program and some that need programs
// which tell what they were given.
func TestScripts(t *testing.T) {
	for _, dir := range []string{"testdata", "../../cmd/cleat/testdata"} {
		testscript.Run(t, testscript.Params{
			Dir:                 dir,
			RequireExplicitExec: true,
			Setup: func(env *testscript.Env) error {
				env.Setenv("CLEAT_CONFIG", env.WorkDir+"/config.yaml")
				return nil
			},
		})
	}
}

// testApp is the command line with programs that only tell how they were
// called, on a machine that has one address and a caller who is root.
func testApp() *app {
	a := newApp(Programs{
		Server:  tellServer,
		Kubectl: func(args []string) int { return tell("kubectl", args, "KUBECONFIG") },
		Ctr:     func(args []string) int { return tell("ctr", args, "CONTAINERD_ADDRESS", "CONTAINERD_NAMESPACE") },
		Crictl:  func(args []string) int { return tell("crictl", args, "CRI_CONFIG_FILE", "CONTAINER_RUNTIME_ENDPOINT") },
		Graph:   smallGraph,
	})
	a.euid = func() int { return 0 }
	a.detect = func(_ context.Context, cfg *config.Config) error {
		cfg.Host.Addresses = []netip.Addr{netip.MustParseAddr("192.0.2.10")}
		cfg.AdvertiseAddress = "192.0.2.10"
		return nil
	}
	return a
}

func tell(name string, args []string, variables ...string) int {
	fmt.Println(name, args)
	for _, v := range variables {
		if value := os.Getenv(v); value != "" {
			fmt.Printf("%s=%s\n", v, value)
		}
	}
	if len(args) > 0 && args[0] == "fail" {
		return 7
	}
	return 0
}

func tellServer(_ context.Context, cfg *config.Config, log *slog.Logger) error {
	if os.Getenv("FAIL") != "" {
		return errors.Join(
			&kernel.UnitError{Unit: "pki", Err: errors.New("disk full")},
			&kernel.UnitError{Unit: "kubelet", Err: fmt.Errorf("%w", errors.New("gone"))})
	}
	cmdline, err := os.ReadFile("/proc/self/cmdline")
	if err != nil {
		return err
	}
	fmt.Println("token", cfg.Token, "endpoint", cfg.DatastoreEndpoint, "node", cfg.NodeName, "advertise", cfg.AdvertiseAddress)
	fmt.Println("data", cfg.DataDir)
	_, args, _ := strings.Cut(string(bytes.ReplaceAll(bytes.TrimRight(cmdline, "\x00"), []byte{0}, []byte{' '})), " ")
	fmt.Println("cmdline cleat", args)
	environ, err := os.ReadFile("/proc/self/environ")
	if err != nil {
		return err
	}
	for pair := range bytes.SplitSeq(environ, []byte{0}) {
		if bytes.HasPrefix(pair, []byte("CLEAT_")) {
			fmt.Printf("environ %s\n", pair)
		}
	}
	fmt.Println("variables", os.Getenv("CLEAT_TOKEN")+os.Getenv("CLEAT_DATASTORE_ENDPOINT"))
	log.Info("served", "token", cfg.Token)
	return nil
}

type nothing struct{}

func (nothing) Run(ctx context.Context, ready func()) error { return nil }

func smallGraph(cfg *config.Config) (kernel.Graph, error) {
	k := kernel.New(kernel.Options{})
	apiserver := k.Add("apiserver", nothing{}, k.Add("datastore", nothing{}))
	if !cfg.DisableAgent {
		k.Add("kubelet", nothing{}, apiserver)
	}
	return k.Graph(), nil
}
