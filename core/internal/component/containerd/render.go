package containerd

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/template"

	"github.com/pelletier/go-toml/v2"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

// maxInputBytes bounds every file an operator gives us here.
const maxInputBytes = 1 << 20

//go:embed config.toml.tmpl
var baseTemplate string

// templateData is what config.toml.tmpl may use, in ours and in an operator's.
type templateData struct {
	Root, State         string
	Socket, TTRPCSocket string
	Snapshotter         string
	PauseImage          string
	RegistryHosts       string // the directory of hosts.toml files
	Shim, Runc          string // absolute paths
	CNIBinDirs          []string
	CNIConfDir          string
	DisableAppArmor     bool
	RestrictOOMScoreAdj bool
	DefaultRuntime      string
	NonrootDevices      bool
	Auths               []registryAuth
}

func newTemplateData(cfg *config.Config, data paths.Data, binDir string, auths []registryAuth) templateData {
	return templateData{
		Root:          data.Containerd(),
		State:         paths.ContainerdDir,
		Socket:        paths.CRISocket,
		TTRPCSocket:   paths.CRISocket + ".ttrpc",
		Snapshotter:   cfg.Snapshotter,
		PauseImage:    cfg.PauseImage,
		RegistryHosts: data.RegistryHosts(),
		Shim:          filepath.Join(binDir, "containerd-shim-runc-v2"),
		Runc:          filepath.Join(binDir, "runc"),
		CNIBinDirs:    []string{binDir, paths.CNIBinDir},
		CNIConfDir:    paths.CNIConfDir,
		// Loading a profile needs the machine's AppArmor, which a user
		// namespace does not own.
		DisableAppArmor:     !cfg.Host.AppArmor || cfg.Host.UserNamespace,
		RestrictOOMScoreAdj: !cfg.Host.CanRaiseOOMScore,
		DefaultRuntime:      cfg.DefaultRuntime,
		NonrootDevices:      cfg.NonrootDevices,
		Auths:               auths,
	}
}

// render executes the base template, or the operator's at templatePath if that
// file exists, and checks that the result is TOML.
func render(td templateData, templatePath string) ([]byte, error) {
	base, err := template.New("base").Funcs(template.FuncMap{"quote": quote}).Option("missingkey=error").Parse(baseTemplate)
	if err != nil {
		return nil, fmt.Errorf("containerd configuration: built-in template: %w", err)
	}
	chosen, source := base, "built-in template"
	text, err := readBounded(templatePath)
	switch {
	case err == nil:
		source = templatePath
		// The name of a template begins the message of its errors.
		if chosen, err = base.New(templatePath).Parse(string(text)); err != nil {
			return nil, fmt.Errorf("containerd configuration: %w", err)
		}
	case !errors.Is(err, os.ErrNotExist):
		return nil, fmt.Errorf("containerd configuration: %w", err)
	}
	var out bytes.Buffer
	if err := chosen.Execute(&out, td); err != nil {
		return nil, fmt.Errorf("containerd configuration: %w", err)
	}
	var parsed rendered
	if err := toml.Unmarshal(out.Bytes(), &parsed); err != nil {
		var at *toml.DecodeError
		if errors.As(err, &at) {
			// Not the text of the line: it may hold a password.
			row, col := at.Position()
			return nil, fmt.Errorf("containerd configuration: what %s renders to is no TOML: line %d, column %d (key %q): %w",
				source, row, col, strings.Join(at.Key(), "."), err)
		}
		return nil, fmt.Errorf("containerd configuration: what %s renders to is no TOML: %w", source, err)
	}
	// A template may choose another runtime, or leave the choice out.
	cri := parsed.Plugins.Runtime.Containerd
	if _, ok := cri.Runtimes[td.DefaultRuntime]; cri.DefaultRuntimeName == td.DefaultRuntime && !ok {
		return nil, fmt.Errorf("containerd configuration: --default-runtime %q is not among the runtimes of %s, which are %s; add it in %s",
			td.DefaultRuntime, source, strings.Join(slices.Sorted(maps.Keys(cri.Runtimes)), ", "), templatePath)
	}
	return out.Bytes(), nil
}

// rendered is what is checked of a configuration: with a default runtime that
// it does not have, containerd would serve no CRI and not say why.
type rendered struct {
	Plugins struct {
		Runtime struct {
			Containerd struct {
				DefaultRuntimeName string         `toml:"default_runtime_name"`
				Runtimes           map[string]any `toml:"runtimes"`
			} `toml:"containerd"`
		} `toml:"io.containerd.cri.v1.runtime"`
	} `toml:"plugins"`
}

// quote writes a TOML basic string. JSON's escapes are a subset of TOML's,
// except that JSON leaves DEL as it is.
func quote(s string) (string, error) {
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return "", err
	}
	return strings.ReplaceAll(strings.TrimSuffix(out.String(), "\n"), "\x7f", `\u007f`), nil
}

// readBounded reads a regular file of at most maxInputBytes.
func readBounded(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxInputBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxInputBytes {
		return nil, fmt.Errorf("%s: larger than %d bytes", path, maxInputBytes)
	}
	return content, nil
}
