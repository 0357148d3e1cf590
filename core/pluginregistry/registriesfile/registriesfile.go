// Package registriesfile reads registries.yaml, in which an operator names
// mirrors, credentials and certificates of registries, as k3s has it.
package registriesfile

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

// Wildcard stands for every registry that has no entry of its own.
const Wildcard = "*"

const maxBytes = 1 << 20 // of registries.yaml, and of each certificate file

// File is the content of registries.yaml.
type File struct {
	Mirrors map[string]Mirror `json:"mirrors,omitempty"`
	Configs map[string]Config `json:"configs,omitempty"`
}

// Mirror lists where a registry's content is looked for before the registry
// itself, in order.
type Mirror struct {
	Endpoints []string          `json:"endpoint,omitempty"`
	Rewrites  map[string]string `json:"rewrite,omitempty"` // pattern -> replacement of the repository name
}

// Config is how to talk to one host.
type Config struct {
	Auth *Auth `json:"auth,omitempty"`
	TLS  *TLS  `json:"tls,omitempty"`
}

// Auth is a credential, in one of three forms.
type Auth struct {
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	IdentityToken string `json:"identity_token,omitempty"`
}

// TLS says whom to trust and as whom to appear. Paths are absolute.
type TLS struct {
	CAFile             string `json:"ca_file,omitempty"`
	CertFile           string `json:"cert_file,omitempty"`
	KeyFile            string `json:"key_file,omitempty"` // "" = in CertFile
	InsecureSkipVerify bool   `json:"insecure_skip_verify,omitempty"`
}

// Read reads the file at path. No path and no file are an empty File.
func Read(path string) (*File, error) {
	if path == "" {
		return &File{}, nil
	}
	content, err := readBounded(path)
	if errors.Is(err, fs.ErrNotExist) {
		return &File{}, nil
	}
	if err != nil {
		return nil, err
	}
	f, err := Parse(content)
	if err == nil {
		err = f.CheckFiles()
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return f, nil
}

// Parse reads the text strictly: an unknown key or a value that would have no
// effect is an error that names it. Errors hold no secret.
func Parse(content []byte) (*File, error) {
	var f File
	if err := yaml.UnmarshalStrict(content, &f); err != nil {
		return nil, fmt.Errorf("not the shape of registries.yaml (mirrors, configs): %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(f.Mirrors)) {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("mirrors.%q: %w", name, err)
		}
		if _, err := f.Mirrors[name].resolve(); err != nil {
			return nil, fmt.Errorf("mirrors.%q.%w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f.Configs)) {
		if err := checkName(name); err != nil {
			return nil, fmt.Errorf("configs.%q: %w", name, err)
		}
		if err := f.Configs[name].check(name); err != nil {
			return nil, fmt.Errorf("configs.%q.%w", name, err)
		}
	}
	return &f, nil
}

// Endpoints returns the mirrors of a registry, or those of the wildcard, in the
// order in which they are tried. The registry itself is not among them unless
// it is named.
func (f *File) Endpoints(registry string) ([]Endpoint, error) {
	m, ok := f.Mirrors[registry]
	if !ok {
		m = f.Mirrors[Wildcard]
	}
	endpoints, err := m.resolve()
	if err != nil {
		return nil, fmt.Errorf("mirrors.%q.%w", registry, err)
	}
	return endpoints, nil
}

// TLS returns the settings for a host, or those of the wildcard; nil for none.
func (f *File) TLS(host string) *TLS {
	if c, ok := f.Configs[host]; ok && c.TLS != nil {
		return c.TLS
	}
	return f.Configs[Wildcard].TLS
}

// Auth returns the credential for a host, nil for none.
func (f *File) Auth(host string) *Auth {
	if a := f.Configs[host].Auth; a != nil && *a != (Auth{}) {
		return a
	}
	return nil
}

// CheckFiles reports certificate files that cannot be read, before the first
// connection needs them.
func (f *File) CheckFiles() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(f.Configs)) {
		for _, file := range f.Configs[name].TLS.files() {
			if file.path == "" {
				continue
			}
			if _, err := readBounded(file.path); err != nil {
				errs = append(errs, fmt.Errorf("configs.%q.tls.%s: %w", name, file.field, err))
			}
		}
	}
	return errors.Join(errs...)
}

// UserPassword returns the user and password of the credential, in whichever
// form it has; both are empty for an identity token.
func (a *Auth) UserPassword() (user, password string) {
	if a.Auth == "" {
		return a.Username, a.Password
	}
	text, err := base64.StdEncoding.DecodeString(a.Auth)
	if err != nil {
		return "", "" // Parse has refused it
	}
	user, password, _ = strings.Cut(string(text), ":")
	return user, password
}

// ReadCertificates returns the contents of the files; those not named are nil.
// A key that is inside the certificate's file is returned with it.
func (t *TLS) ReadCertificates() (ca, cert, key []byte, err error) {
	var content [3][]byte
	for i, file := range t.files() {
		if file.path == "" {
			continue
		}
		if content[i], err = readBounded(file.path); err != nil {
			return nil, nil, nil, fmt.Errorf("%s: %w", file.field, err)
		}
	}
	if content[1] != nil && content[2] == nil {
		content[2] = content[1]
	}
	return content[0], content[1], content[2], nil
}

func (c Config) check(host string) error {
	if c.Auth != nil {
		if host == Wildcard {
			return errors.New("auth: a credential is given to one registry, not to all: name the registry")
		}
		if err := c.Auth.check(); err != nil {
			return fmt.Errorf("auth.%w", err)
		}
	}
	if err := c.TLS.check(); err != nil {
		return fmt.Errorf("tls.%w", err)
	}
	return nil
}

func (a *Auth) check() error {
	switch {
	case a.Username == "" && a.Password != "":
		return errors.New("password: set without username")
	case a.Username != "" && (a.Auth != "" || a.IdentityToken != ""), a.Auth != "" && a.IdentityToken != "":
		return errors.New("username, auth, identity_token: only one of them may be set")
	}
	if a.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil || !strings.Contains(string(decoded), ":") {
			return errors.New("auth: not the base64 form of user:password")
		}
	}
	return nil
}

type namedFile struct{ field, path string }

func (t *TLS) files() []namedFile {
	if t == nil {
		return nil
	}
	return []namedFile{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}}
}

func (t *TLS) check() error {
	if t == nil {
		return nil
	}
	for _, f := range t.files() {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return fmt.Errorf("%s: %q is not an absolute path", f.field, f.path)
		}
	}
	if t.KeyFile != "" && t.CertFile == "" {
		return errors.New("key_file: set without cert_file")
	}
	return nil
}

func readBounded(path string) (_ []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if info, err := f.Stat(); err != nil {
		return nil, err
	} else if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	content, err := io.ReadAll(io.LimitReader(f, maxBytes+1))
	if err == nil && len(content) > maxBytes {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxBytes)
	}
	return content, err
}
