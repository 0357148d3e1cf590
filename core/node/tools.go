package node

import (
	"context"
	"log/slog"
	"os"
	"time"

	"github.com/cleat-dev/cleat/core/config"
	embedcontainerd "github.com/cleat-dev/cleat/core/internal/embed/containerd"
	"github.com/cleat-dev/cleat/core/internal/embed/crictl"
	"github.com/cleat-dev/cleat/core/internal/embed/kubectl"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
	"github.com/cleat-dev/cleat/core/kernel"
)

// HideForeignFlags keeps the flags of embedded programs off the command line of
// cleat; call it before that is built.
func HideForeignFlags() { quirks.HideForeignFlags() }

// Kubectl runs kubectl with the arguments after its name; it returns the exit code.
func Kubectl(args []string) int { return kubectl.Run(args) }

// Ctr runs containerd's client with the arguments after its name.
func Ctr(args []string) int { return embedcontainerd.Ctr(append([]string{"ctr"}, args...)) }

// Crictl runs the CRI client with the arguments after its name.
func Crictl(args []string) int {
	return crictl.Run(context.Background(), args, crictl.Stdio{In: os.Stdin, Out: os.Stdout, Err: os.Stderr})
}

// Graph is the boot order of a server, or of an agent, with these options.
func Graph(cfg *config.Config) (kernel.Graph, error) {
	build := newServer
	if cfg.IsAgent() {
		build = newAgent
	}
	k, _, err := build(cfg, time.Now(), slog.New(slog.DiscardHandler))
	if err != nil {
		return kernel.Graph{}, err
	}
	return k.Graph(), nil
}
