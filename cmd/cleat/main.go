// Command cleat runs a Kubernetes node whose choices are made by WebAssembly
// plugins, and the tools to look into it.
package main

import (
	"os"

	"github.com/cleat-dev/cleat/core/cli"
	"github.com/cleat-dev/cleat/core/cli/plugincmd"
	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/node"
)

func main() {
	if len(os.Args) == 2 && os.Args[1] == node.RenderWord {
		os.Exit(node.RenderChild())
	}
	node.HideForeignFlags()
	bundle := node.EmbeddedBundle()
	os.Exit(cli.Main(cli.Programs{
		Server:  node.RunServer,
		Agent:   node.RunAgent,
		Kubectl: node.Kubectl,
		Ctr:     node.Ctr,
		Crictl:  node.Crictl,
		Graph:   node.Graph,
		Plugin: plugincmd.New(plugincmd.Deps{
			Embedded: bundle.Plugins, Lock: bundle.Lock, CacheSeed: bundle.Cache, SDK: bundle.SDK, Renderer: node.Renderer(),
			PluginsDir: config.DefaultDataDir + "/plugins", Captures: config.DefaultDataDir + "/plugins/captures",
		}),
	}, os.Args, os.Stdin, os.Stdout, os.Stderr))
}
