// Command lockfile compares built plugins with plugins.lock, or writes it:
//
//	lockfile check plugins.lock build/bundle/plugins/*.wasm
//	lockfile write plugins.lock [--accept] build/bundle/plugins
//
// Writing is `cleat plugin lock`, without building the rest of cleat.
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/cleat-dev/cleat/core/cli/plugincmd"
	"github.com/cleat-dev/cleat/core/pluginhost"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "lockfile:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 3 {
		return errors.New("want check or write, a lock and plugins")
	}
	action, name, rest := args[0], args[1], args[2:]
	switch action {
	case "check":
		return check(name, rest)
	case "write":
		cmd := plugincmd.New(plugincmd.Deps{})
		cmd.SetArgs(append([]string{"lock", "--embedded", "--plugins-lock", name}, rest...))
		cmd.SilenceErrors, cmd.SilenceUsage = true, true
		return cmd.Execute()
	default:
		return fmt.Errorf("%q: want check or write", action)
	}
}

func check(name string, files []string) error {
	text, err := os.ReadFile(name)
	if err != nil {
		return fmt.Errorf("%w; `make lock` writes it", err)
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return err
	}
	return compare(lock, files)
}

// compare reports every embedded plugin of the lock that the files lack or
// hold with other bytes, and every file that the lock does not name.
func compare(lock *pluginhost.Lock, files []string) error {
	built := map[string]string{}
	for _, file := range files {
		wasm, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		built[filepath.Base(file)] = pluginhost.Digest(wasm)
	}
	var differences []error
	for _, p := range lock.Plugins {
		base, embedded := strings.CutPrefix(p.Source, "embedded:")
		if !embedded {
			continue
		}
		digest, found := built[base]
		delete(built, base)
		switch {
		case !found:
			differences = append(differences, fmt.Errorf("%s: plugins.lock wants %s, which was not built", p.Name, base))
		case digest != p.SHA256:
			differences = append(differences, fmt.Errorf("%s: sha256: plugins.lock has %s, the build gives %s", p.Name, p.SHA256, digest))
		}
	}
	for base := range built {
		differences = append(differences, fmt.Errorf("%s: built, but not in plugins.lock", base))
	}
	if len(differences) == 0 {
		return nil
	}
	return errors.Join(append(differences, errors.New("if the change is meant, `make lock` accepts it"))...)
}
