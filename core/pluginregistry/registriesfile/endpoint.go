package registriesfile

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// DefaultRoot is where a registry's API begins.
const DefaultRoot = "/v2"

// Endpoint is one place where a registry's content is served.
type Endpoint struct {
	Host   string // as in configs, with a port if it has one
	Plain  bool   // http, because the file says so
	Root   string // path of the API, DefaultRoot unless the file says otherwise
	Prefix string // put before every repository name, "" or like "cache/hub/"
}

// URL is the address below which repositories are.
func (e Endpoint) URL() string {
	scheme := "https"
	if e.Plain {
		scheme = "http"
	}
	return strings.TrimSuffix(scheme+"://"+e.Host+e.Root+"/"+e.Prefix, "/")
}

// resolve turns the endpoints and the rewrite into addresses.
func (m Mirror) resolve() ([]Endpoint, error) {
	prefix, err := m.rewritePrefix()
	if err != nil {
		return nil, err
	}
	var out []Endpoint
	for i, raw := range m.Endpoints {
		e, err := parseEndpoint(raw)
		if err != nil {
			return nil, fmt.Errorf("endpoint[%d]: %w", i, err)
		}
		e.Prefix = prefix
		if slices.Contains(out, e) {
			return nil, fmt.Errorf("endpoint[%d]: %q is listed twice", i, raw)
		}
		out = append(out, e)
	}
	return out, nil
}

func parseEndpoint(raw string) (Endpoint, error) {
	full := raw
	if !strings.Contains(raw, "://") {
		full = "https://" + raw
	}
	u, err := url.Parse(full)
	switch {
	case err != nil || (u.Scheme != "https" && u.Scheme != "http"):
		return Endpoint{}, fmt.Errorf("%q is no http or https address", redact(raw))
	case u.User != nil:
		return Endpoint{}, fmt.Errorf("%q holds a credential: put it under configs", redact(raw))
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return Endpoint{}, fmt.Errorf("%q has a query or fragment", raw)
	}
	if err := CheckHost(u.Host); err != nil {
		return Endpoint{}, fmt.Errorf("%q: %w", raw, err)
	}
	root := strings.TrimRight(u.Path, "/")
	if root == "" {
		root = DefaultRoot
	}
	if !matches(urlPath, root) || slices.Contains(strings.Split(root, "/"), "..") {
		return Endpoint{}, fmt.Errorf("%q: the path may hold letters, digits and . _ - ~ / only", raw)
	}
	return Endpoint{Host: u.Host, Plain: u.Scheme == "http", Root: root}, nil
}

// Shapes of names and rewrites.
const (
	urlPath = `^(/[A-Za-z0-9._~-]+)+$`
	dnsName = `^[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9-]*[A-Za-z0-9])?)*$`
	// A rewrite that keeps the whole name and puts something before it.
	wholeName  = `^\^?\(\.[*+]\)\$?$`
	namePrefix = `^(?:[a-z0-9]+(?:[._-]+[a-z0-9]+)*/)*$`
)

func matches(pattern, s string) bool { return regexp.MustCompile(pattern).MatchString(s) }

// rewritePrefix returns what the rewrite puts before every repository name.
// containerd rewrites nothing else, so any other rewrite is refused: ignoring it
// would fetch other content than the operator meant.
func (m Mirror) rewritePrefix() (string, error) {
	if len(m.Rewrites) > 1 {
		return "", fmt.Errorf("rewrite: %d patterns, but only a single one that puts a prefix before every name is supported", len(m.Rewrites))
	}
	for pattern, replacement := range m.Rewrites {
		prefix, ok := strings.CutSuffix(replacement, "$1")
		if !ok {
			prefix, ok = strings.CutSuffix(replacement, "${1}")
		}
		if !ok || !matches(wholeName, pattern) || !matches(namePrefix, prefix) {
			return "", fmt.Errorf(`rewrite: %q: %q: only a prefix is supported, written "(.*)": "prefix/$1"; for anything else let the mirror serve the original names`,
				pattern, replacement)
		}
		return prefix, nil
	}
	return "", nil
}

// checkName accepts the wildcard and host[:port].
func checkName(name string) error {
	if name == Wildcard {
		return nil
	}
	return CheckHost(name)
}

const noRegistry = `%q is no registry: write host or host:port, without scheme and path, or "*"`

// CheckHost accepts a DNS name, an IPv4 address or a bracketed IPv6 address,
// each with or without a port.
func CheckHost(hostport string) error {
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
