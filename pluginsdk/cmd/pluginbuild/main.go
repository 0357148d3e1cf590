// Command pluginbuild builds a cleat plugin from Go source, reproducibly, and
// appends its manifest.
//
//	pluginbuild -o datastore-kine.wasm ../plugins/datastore-kine
//
// The directory is a main package in a module of its own, with manifest.json
// beside the source. The bytes depend on the source, the manifest and the Go
// version in the module's go.mod, and on nothing else: not on the directory,
// the machine, the environment or a go.work file.
//
// It prints the sha256 of the plugin, and its name, as sha256sum does.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "pluginbuild:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("pluginbuild", flag.ContinueOnError)
	out := flags.String("o", "", "write the plugin to `file`; default <name>.wasm in the current directory")
	flags.Usage = func() {
		fmt.Fprintln(flags.Output(), "usage: pluginbuild [-o file] directory")
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() != 1 {
		return fmt.Errorf("%d arguments, want one: the plugin's directory", flags.NArg())
	}
	built, err := Build(ctx, flags.Arg(0))
	if err != nil {
		return err
	}
	path := *out
	if path == "" {
		path = built.Name + ".wasm"
	}
	if err := replaceFile(path, built.Wasm); err != nil {
		return err
	}
	fmt.Printf("%s  %s\n", built.SHA256(), path)
	return nil
}
