package containerd

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// wildcard stands for every registry that has no entry of its own.
const wildcard = "*"

// registries is the content of registries.yaml.
type registries struct {
	Mirrors map[string]mirror         `json:"mirrors,omitempty"`
	Configs map[string]registryConfig `json:"configs,omitempty"`
}

// mirror lists where images of a registry are looked for before the registry
// itself, in order.
type mirror struct {
	Endpoints []string          `json:"endpoint,omitempty"`
	Rewrites  map[string]string `json:"rewrite,omitempty"` // pattern -> replacement of the repository name
}

type registryConfig struct {
	Auth *registryAuth `json:"auth,omitempty"`
	TLS  *registryTLS  `json:"tls,omitempty"`
}

// registryAuth is a credential; Host is the key of its entry.
type registryAuth struct {
	Host          string `json:"-"`
	Username      string `json:"username,omitempty"`
	Password      string `json:"password,omitempty"`
	Auth          string `json:"auth,omitempty"` // base64 of user:password
	IdentityToken string `json:"identity_token,omitempty"`
}

type registryTLS struct {
	CAFile             string `json:"ca_file,omitempty"`
	CertFile           string `json:"cert_file,omitempty"`
	KeyFile            string `json:"key_file,omitempty"`
	InsecureSkipVerify bool   `json:"insecure_skip_verify,omitempty"`
}

// parseRegistries reads registries.yaml strictly: an unknown key or a value
// that would have no effect is an error that names it. Errors hold no secret.
func parseRegistries(content []byte) (*registries, error) {
	var r registries
	if err := yaml.UnmarshalStrict(content, &r); err != nil {
		return nil, fmt.Errorf("not the shape of registries.yaml (mirrors, configs): %w", err)
	}
	for _, name := range slices.Sorted(maps.Keys(r.Mirrors)) {
		if err := checkRegistryName(name); err != nil {
			return nil, fmt.Errorf("mirrors.%q: %w", name, err)
		}
		if _, err := r.Mirrors[name].resolve(); err != nil {
			return nil, fmt.Errorf("mirrors.%q.%w", name, err)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Configs)) {
		if err := checkRegistryName(name); err != nil {
			return nil, fmt.Errorf("configs.%q: %w", name, err)
		}
		c := r.Configs[name]
		if c.Auth != nil {
			if name == wildcard {
				return nil, fmt.Errorf("configs.%q.auth: a credential is given to one registry, not to all: name the registry", name)
			}
			if err := c.Auth.check(); err != nil {
				return nil, fmt.Errorf("configs.%q.auth.%w", name, err)
			}
		}
		if err := c.TLS.check(); err != nil {
			return nil, fmt.Errorf("configs.%q.tls.%w", name, err)
		}
	}
	return &r, nil
}

// auths returns the credentials in the order of their hosts.
func (r *registries) auths() []registryAuth {
	var out []registryAuth
	for _, host := range slices.Sorted(maps.Keys(r.Configs)) {
		if auth := r.Configs[host].Auth; auth != nil && *auth != (registryAuth{}) {
			withHost := *auth
			withHost.Host = host
			out = append(out, withHost)
		}
	}
	return out
}

func (a *registryAuth) check() error {
	switch {
	case a.Username == "" && a.Password != "":
		return fmt.Errorf("password: set without username")
	case a.Username != "" && (a.Auth != "" || a.IdentityToken != ""), a.Auth != "" && a.IdentityToken != "":
		return fmt.Errorf("username, auth, identity_token: only one of them may be set")
	}
	if a.Auth != "" {
		decoded, err := base64.StdEncoding.DecodeString(a.Auth)
		if err != nil || !strings.Contains(string(decoded), ":") {
			return fmt.Errorf("auth: not the base64 form of user:password")
		}
	}
	return nil
}

func (t *registryTLS) check() error {
	if t == nil {
		return nil
	}
	for _, f := range []struct{ field, path string }{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}} {
		if f.path != "" && !filepath.IsAbs(f.path) {
			return fmt.Errorf("%s: %q is not an absolute path", f.field, f.path)
		}
	}
	if t.KeyFile != "" && t.CertFile == "" {
		return fmt.Errorf("key_file: set without cert_file")
	}
	return nil
}

// endpoint is one place a mirror looks at.
type endpoint struct {
	host         string // as in configs
	url          string
	overridePath bool // the path of url is the whole API root
}

// resolve turns the endpoints and the rewrite into what hosts.toml can say.
func (m mirror) resolve() ([]endpoint, error) {
	prefix, err := m.rewritePrefix()
	if err != nil {
		return nil, err
	}
	var out []endpoint
	for i, raw := range m.Endpoints {
		ep, err := resolveEndpoint(raw, prefix)
		if err != nil {
			return nil, fmt.Errorf("endpoint[%d]: %w", i, err)
		}
		if slices.ContainsFunc(out, func(e endpoint) bool { return e.url == ep.url }) {
			return nil, fmt.Errorf("endpoint[%d]: %q is listed twice", i, raw)
		}
		out = append(out, ep)
	}
	return out, nil
}

func resolveEndpoint(raw, prefix string) (endpoint, error) {
	full := raw
	if !strings.Contains(raw, "://") {
		full = "https://" + raw
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http"):
		return endpoint{}, fmt.Errorf("%q is no http or https address", redact(raw))
	case u.User != nil:
		return endpoint{}, fmt.Errorf("%q holds a credential: put it under configs", redact(raw))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return endpoint{}, fmt.Errorf("%q has a query or fragment", raw)
	}
	if err := checkHost(u.Host); err != nil {
		return endpoint{}, fmt.Errorf("%q: %w", raw, err)
	}
	path := strings.TrimRight(u.Path, "/")
	if path == "" {
		path = "/v2"
	}
	if !matches(urlPath, path) || slices.Contains(strings.Split(path, "/"), "..") {
		return endpoint{}, fmt.Errorf("%q: the path may hold letters, digits and . _ - ~ / only", raw)
	}
	path += prefix
	return endpoint{
		host:         u.Host,
		url:          u.Scheme + "://" + u.Host + path,
		overridePath: !strings.HasSuffix(path, "/v2"),
	}, nil
}

// Shapes of names and rewrites.
const (
	urlPath = `^(/[A-Za-z0-9._~-]+)+$`
	dnsName = `^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`
	// A rewrite that keeps the whole name and puts something before it.
	wholeName   = `^\^?\(\.[*+]\)\$?$`
	namePrefix  = `^(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*/)*$`
	wholeMatch1 = "$1"
	wholeMatch2 = "${1}"
)

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// rewritePrefix returns what a rewrite puts before every repository name, as
// a path, or "". containerd rewrites nothing; a prefix is expressed as part of
// the API root, and any other rewrite is refused, since ignoring it would
// fetch other images than the operator meant.
func (m mirror) rewritePrefix() (string, error) {
	if len(m.Rewrites) == 0 {
		return "", nil
	}
	if len(m.Rewrites) > 1 {
		return "", fmt.Errorf("rewrite: %d patterns, but only a single one that puts a prefix before every name is supported", len(m.Rewrites))
	}
	for pattern, replacement := range m.Rewrites {
		prefix, ok := strings.CutSuffix(replacement, wholeMatch1)
		if !ok {
			prefix, ok = strings.CutSuffix(replacement, wholeMatch2)
		}
		if !ok || !matches(wholeName, pattern) || !matches(namePrefix, prefix) {
			return "", fmt.Errorf(`rewrite: %q: %q: containerd cannot rewrite names; only a prefix is supported, written "(.*)": "prefix/$1"; for anything else let the mirror serve the original names`,
				pattern, replacement)
		}
		if prefix != "" {
			return "/" + strings.TrimSuffix(prefix, "/"), nil
		}
	}
	return "", nil
}

// checkRegistryName accepts the wildcard and host[:port].
func checkRegistryName(name string) error {
	if name == wildcard {
		return nil
	}
	return checkHost(name)
}

const noRegistry = `%q is no registry: write host or host:port, without scheme and path, or "*"`

// checkHost accepts a DNS name, an IPv4 address or a bracketed IPv6 address,
// each with or without a port. The name becomes part of a path.
func checkHost(hostport string) error {
	host := hostport
	if strings.Contains(hostport, "/") {
		return fmt.Errorf(noRegistry, hostport)
	}
	if h, port, err := net.SplitHostPort(hostport); err == nil {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return fmt.Errorf("port %q is not a number from 1 to 65535", port)
		}
		host = h
		if strings.Contains(h, ":") {
			host = "[" + h + "]"
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, ok = strings.CutSuffix(inner, "]")
		if addr, err := netip.ParseAddr(inner); !ok || err != nil || !addr.Is6() || addr.Zone() != "" {
			return fmt.Errorf("%q is no IPv6 address", host)
		}
		return nil
	}
	if len(host) > 253 || !matches(dnsName, host) {
		return fmt.Errorf(noRegistry, hostport)
	}
	return nil
}

// redact hides what a URL holds before an @.
func redact(raw string) string {
	if at := strings.LastIndex(raw, "@"); at >= 0 {
		return "…" + raw[at:]
	}
	return raw
}

// checkFiles reports certificate files that cannot be read, which containerd
// would only find when the first image is pulled.
func (r *registries) checkFiles() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(r.Configs)) {
		t := r.Configs[name].TLS
		if t == nil {
			continue
		}
		for _, f := range []struct{ field, path string }{{"ca_file", t.CAFile}, {"cert_file", t.CertFile}, {"key_file", t.KeyFile}} {
			if f.path == "" {
				continue
			}
			if _, err := readBounded(f.path); err != nil {
				errs = append(errs, fmt.Errorf("configs.%q.tls.%s: %w", name, f.field, err))
			}
		}
	}
	return errors.Join(errs...)
}
