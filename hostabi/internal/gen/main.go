// Command gen writes everything that derives from the ABI tables of package
// hostabi: ABI.md, abi.json and the Go SDK's declarations. It is run by
// go generate in the hostabi directory.
package main

import (
	"fmt"
	"os"
	"path/filepath"
)

func main() {
	if err := run("."); err != nil {
		fmt.Fprintln(os.Stderr, "gen:", err)
		os.Exit(1)
	}
}

// run writes the outputs relative to dir, the hostabi directory.
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
