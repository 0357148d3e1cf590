// Command gen writes everything that derives from the ABI tables of package
// hostabi and its messages: the contract as ABI.md and as abi.json, and what the
// SDKs declare in Go, C, Rust and AssemblyScript. It is run by go generate in the
// hostabi directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	const hostabi = "." // where go generate runs a command
	if err := run(hostabi); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run reads dir, the hostabi directory, and writes the outputs relative to it.
func run(dir string) error {
	outputs, err := generate(dir)
	if err != nil {
		return err
	}
	for _, o := range outputs {
		path := filepath.Join(dir, filepath.FromSlash(o.path))
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, o.data, 0o644); err != nil {
			return err
		}
	}
	return nil
}
