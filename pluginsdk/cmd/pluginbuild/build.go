package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// Built is a finished plugin.
type Built struct {
	Name string
	Wasm []byte // with its manifest
}

// SHA256 returns the digest of the plugin in hexadecimal.
func (b Built) SHA256() string {
	sum := sha256.Sum256(b.Wasm)
	return hex.EncodeToString(sum[:])
}

// Build compiles the plugin in dir and checks it against its manifest.
func Build(ctx context.Context, dir string) (Built, error) {
	text, manifest, err := readManifest(filepath.Join(dir, "manifest.json"))
	if err != nil {
		return Built{}, err
	}
	module, err := compile(ctx, dir)
	if err != nil {
		return Built{}, err
	}
	file, err := wasmfile.Parse(module)
	if err != nil {
		return Built{}, err
	}
	if err := file.CheckManifest(manifest); err != nil {
		return Built{}, fmt.Errorf("%s is not what its manifest says:\n%w", manifest.Name, err)
	}
	imported := file.Capabilities()
	for _, c := range manifest.Capabilities {
		if !slices.Contains(imported, c) {
			return Built{}, fmt.Errorf("%s: manifest.json: capabilities: %q is not used; take it out", manifest.Name, c)
		}
	}
	if err := checkMinor(file, manifest); err != nil {
		return Built{}, err
	}
	wasm, err := wasmfile.SetCustom(module, hostabi.ManifestSection, text)
	if err != nil {
		return Built{}, err
	}
	if file, err = wasmfile.Parse(wasm); err != nil {
		return Built{}, fmt.Errorf("%s with its manifest: %w", manifest.Name, err)
	}
	if _, err := file.Manifest(); err != nil {
		return Built{}, fmt.Errorf("%s with its manifest: %w", manifest.Name, err)
	}
	return Built{manifest.Name, wasm}, nil
}

// checkMinor refuses a manifest that asks for an older ABI than the plugin uses:
// a host that has only that one would take it and then fail to link it.
func checkMinor(file *wasmfile.File, manifest hostabi.Manifest) error {
	for _, i := range file.Imports {
		f, ok := hostabi.Import(i.Module, i.Name)
		if !ok {
			continue // one of WASI
		}
		var major, minor int
		if _, err := fmt.Sscanf(f.Since, "%d.%d", &major, &minor); err != nil {
			return fmt.Errorf("version %q of %s.%s: %w", f.Since, i.Module, i.Name, err)
		}
		if major == manifest.ABI.Major && minor > manifest.ABI.Minor {
			return fmt.Errorf("%s: manifest.json: abi.minor: %d, but the plugin uses %s.%s of ABI %s; write %d",
				manifest.Name, manifest.ABI.Minor, i.Module, i.Name, f.Since, minor)
		}
	}
	return nil
}

// readManifest returns the canonical text of a valid manifest.
func readManifest(path string) ([]byte, hostabi.Manifest, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, hostabi.Manifest{}, fmt.Errorf("read the manifest: %w", err)
	}
	manifest, err := hostabi.ParseManifest(text)
	if err != nil {
		return nil, hostabi.Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	canonical, err := hostabi.Canonical(text)
	if err != nil {
		return nil, hostabi.Manifest{}, fmt.Errorf("%s: %w", path, err)
	}
	return canonical, manifest, nil
}

// compile builds the main package in dir as a wasm reactor.
func compile(ctx context.Context, dir string) ([]byte, error) {
	env, err := environment(ctx, dir)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp("", "pluginbuild-")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(tmp)
	wasm := filepath.Join(tmp, "plugin.wasm")
	build := exec.CommandContext(ctx, "go", "build", "-buildmode=c-shared", "-trimpath", "-buildvcs=false",
		"-mod=readonly", "-ldflags=-s -w -buildid=", "-o", wasm, ".")
	build.Dir, build.Env = dir, env
	if output, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("build %s: %w\n%s", dir, err, output)
	}
	return os.ReadFile(wasm)
}

// environment is the whole environment of the compiler. It holds where the go
// command finds and keeps things, which does not reach the bytes it makes, and
// fixes everything that would.
func environment(ctx context.Context, dir string) ([]string, error) {
	version, err := goVersion(ctx, dir)
	if err != nil {
		return nil, err
	}
	kept := []string{"GOCACHE", "GOMODCACHE", "GOPATH", "GOPROXY", "GONOPROXY", "GOSUMDB", "GONOSUMDB", "GOPRIVATE", "GOINSECURE"}
	values, err := goOutput(ctx, dir, append([]string{"env", "-json"}, kept...)...)
	if err != nil {
		return nil, err
	}
	settings := map[string]string{}
	if err := json.Unmarshal(values, &settings); err != nil {
		return nil, fmt.Errorf("go env: %w", err)
	}
	env := []string{
		"GOOS=wasip1", "GOARCH=wasm", "GOWASM=", "CGO_ENABLED=0",
		"GOTOOLCHAIN=go" + version, // the very version, downloaded if need be
		"GOFLAGS=", "GOWORK=off", "GOENV=off", "GOEXPERIMENT=", "GODEBUG=", "GOFIPS140=off", "GO111MODULE=on",
	}
	for _, name := range []string{"PATH", "HOME", "TMPDIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"} {
		if value, ok := os.LookupEnv(name); ok {
			env = append(env, name+"="+value)
		}
	}
	for _, name := range kept {
		env = append(env, name+"="+settings[name])
	}
	return env, nil
}

// goVersion returns the version in the go line of the plugin's module.
func goVersion(ctx context.Context, dir string) (string, error) {
	text, err := goOutput(ctx, dir, "mod", "edit", "-json")
	if err != nil {
		return "", err
	}
	var mod struct{ Go string }
	if err := json.Unmarshal(text, &mod); err != nil {
		return "", fmt.Errorf("go.mod of %s: %w", dir, err)
	}
	// go 1.26 without a patch version names a language, not a compiler.
	if strings.Count(mod.Go, ".") < 2 && !strings.Contains(mod.Go, "rc") {
		return "", fmt.Errorf("go.mod of %s: go %q pins no compiler; write the whole version, 1.26.0 for example", dir, mod.Go)
	}
	return mod.Go, nil
}

func goOutput(ctx context.Context, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	// What is set for go build of something else must not fail these.
	cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off", "GOEXPERIMENT=", "GOOS=", "GOARCH=")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	output, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s in %s: %w\n%s", args[0], dir, err, stderr.Bytes())
	}
	return output, nil
}

// replaceFile writes a file so that a reader sees the old or the new one.
func replaceFile(path string, data []byte) error {
	tmp, err := os.CreateTemp(filepath.Dir(path), ".pluginbuild-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) // no longer there after the rename
	if _, err := tmp.Write(data); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Chmod(0o644); err != nil {
		tmp.Close()
		return err
	}
	if err := tmp.Close(); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
