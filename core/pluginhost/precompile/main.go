// Command precompile compiles the plugins of a bundle into a cache seed that
// is embedded next to them, so that the first start of a server compiles nothing.
//
//	precompile -plugins build/plugins -out build/plugincache
//
// The seed fits servers built with the same wazero version that run on the
// architecture and processor features of the machine the build runs on; any
// other server compiles its plugins at its first start.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "precompile:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("precompile", flag.ContinueOnError)
	plugins := flags.String("plugins", "", "`directory` with the .wasm files of the bundle")
	out := flags.String("out", "", "`directory` to write; what is there is removed first")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *plugins == "" || *out == "" || flags.NArg() > 0 {
		return errors.New("want exactly -plugins and -out")
	}
	files, err := filepath.Glob(filepath.Join(*plugins, "*.wasm"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no .wasm files in %s; build the plugins first", *plugins)
	}
	var all [][]byte
	for _, f := range files {
		wasm, err := pluginhost.ReadFile(f, wasmfile.MaxBytes)
		if err != nil {
			return err
		}
		all = append(all, wasm)
	}
	if err := os.RemoveAll(*out); err != nil {
		return err
	}
	begin := time.Now()
	if err := pluginhost.Precompile(ctx, *out, all...); err != nil {
		return err
	}
	fmt.Printf("precompiled %d plugins in %.1f s\n", len(all), time.Since(begin).Seconds())
	return nil
}
