package containerd

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// hostsHeader begins every hosts.toml we write. A file without it is an
// operator's and stays as it is.
const hostsHeader = "# Written by cleat from registries.yaml at every start.\n"

// renderHosts returns the hosts.toml of every registry, by directory name.
// mirrorsOnly: a registry with mirrors is never asked itself.
func renderHosts(f *registriesfile.File, mirrorsOnly bool) (map[string][]byte, error) {
	names := map[string]bool{}
	for name := range f.Mirrors {
		names[name] = true
	}
	for name, c := range f.Configs {
		// Without an entry of its own such a registry would use the
		// wildcard's directory and miss its TLS settings.
		if c.TLS != nil {
			names[name] = true
		}
	}
	out := map[string][]byte{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		endpoints, err := f.Endpoints(name)
		if err != nil {
			return nil, err
		}
		var b bytes.Buffer
		b.WriteString(hostsHeader)
		if last := len(endpoints) - 1; mirrorsOnly && last >= 0 {
			// The server key is what containerd falls back to.
			if err := writeEndpoint(&b, "server = %s\n", "", endpoints[last], f); err != nil {
				return nil, err
			}
			endpoints = endpoints[:last]
		} else if err := writeTLS(&b, f.TLS(name), ""); err != nil { // without the key, that is the registry itself
			return nil, err
		}
		for _, ep := range endpoints {
			if err := writeEndpoint(&b, "\n[host.%s]\n", "  ", ep, f); err != nil {
				return nil, err
			}
		}
		out[hostDirectory(name)] = b.Bytes()
	}
	return out, nil
}

// writeEndpoint writes a mirror under a head that takes its URL.
func writeEndpoint(b *bytes.Buffer, head, indent string, ep registriesfile.Endpoint, f *registriesfile.File) error {
	key, err := quote(ep.URL())
	if err != nil {
		return err
	}
	fmt.Fprintf(b, head+indent+"capabilities = [\"pull\", \"resolve\"]\n", key)
	if !strings.HasSuffix(ep.URL(), registriesfile.DefaultRoot) {
		b.WriteString(indent + "override_path = true\n")
	}
	return writeTLS(b, f.TLS(ep.Host), indent)
}

func writeTLS(b *bytes.Buffer, t *registriesfile.TLS, indent string) error {
	if t == nil {
		return nil
	}
	line := func(format string, values ...string) error {
		quoted := make([]any, len(values))
		for i, v := range values {
			q, err := quote(v)
			if err != nil {
				return err
			}
			quoted[i] = q
		}
		fmt.Fprintf(b, indent+format+"\n", quoted...)
		return nil
	}
	var errs []error
	if t.CAFile != "" {
		errs = append(errs, line("ca = %s", t.CAFile))
	}
	switch {
	case t.KeyFile != "":
		errs = append(errs, line("client = [[%s, %s]]", t.CertFile, t.KeyFile))
	case t.CertFile != "":
		errs = append(errs, line("client = %s", t.CertFile))
	}
	if t.InsecureSkipVerify {
		errs = append(errs, line("skip_verify = true"))
	}
	return errors.Join(errs...)
}

// hostDirectory is the name under which containerd looks for a registry.
func hostDirectory(name string) string {
	if name == registriesfile.Wildcard {
		return "_default"
	}
	// The colon of a port; that of an IPv6 address is inside the brackets.
	if i := strings.LastIndex(name, ":"); i > 0 && !strings.HasSuffix(name, "]") {
		return name[:i] + "_" + name[i+1:] + "_"
	}
	return name
}

// writeHosts makes dir hold the given files, and removes those of an earlier
// registries.yaml. An operator's own hosts.toml wins over ours.
func writeHosts(log *slog.Logger, dir string, files map[string][]byte) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name(), "hosts.toml")
		if _, wanted := files[e.Name()]; wanted || !ours(path) {
			continue
		}
		if err := os.Remove(path); err != nil {
			return err
		}
		// Stays if the operator keeps certificates in it.
		_ = os.Remove(filepath.Dir(path))
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(dir, name, "hosts.toml")
		if _, err := os.Lstat(path); err == nil && !ours(path) {
			log.Warn("registries.yaml is not used for a registry that has a hosts.toml of its own", "file", path)
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return err
		}
		if _, err := atomicfile.WriteIfChanged(path, files[name], 0o600); err != nil {
			return err
		}
	}
	return nil
}

func ours(path string) bool {
	content, err := readBounded(path)
	return err == nil && bytes.HasPrefix(content, []byte(hostsHeader))
}
