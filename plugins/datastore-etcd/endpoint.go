package main

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// endpoints are the members of one etcd.
type endpoints struct {
	scheme string   // http or https
	hosts  []string // each with its port
}

const (
	example      = "https://etcd-1.example.org:2379,https://etcd-2.example.org:2379"
	maxEndpoints = 32
)

// mine reports whether an endpoint is etcd's.
func mine(endpoint string) bool {
	scheme, _, found := strings.Cut(strings.TrimSpace(endpoint), "://")
	scheme = strings.ToLower(scheme)
	return found && (scheme == "http" || scheme == "https")
}

// parseEndpoints reads URLs divided by commas. Its errors do not show one in
// full: who puts a password there should not find it in a log.
func parseEndpoints(text string) (endpoints, error) {
	var e endpoints
	for i, one := range strings.Split(text, ",") {
		scheme, host, err := parseEndpoint(strings.TrimSpace(one))
		switch {
		case err != nil:
			return endpoints{}, fmt.Errorf("datastore-endpoint: URL %d: %w", i+1, err)
		case i >= maxEndpoints:
			return endpoints{}, fmt.Errorf("datastore-endpoint: more than %d URLs; name fewer members of etcd", maxEndpoints)
		case e.scheme != "" && e.scheme != scheme:
			return endpoints{}, fmt.Errorf("datastore-endpoint: URL %d begins with %s://, the first with %s://; use one of them for all", i+1, scheme, e.scheme)
		case slices.Contains(e.hosts, host):
			return endpoints{}, fmt.Errorf("datastore-endpoint: %s is there twice; leave one out", host)
		}
		e.scheme, e.hosts = scheme, append(e.hosts, host)
	}
	return e, nil
}

func parseEndpoint(text string) (scheme, host string, err error) {
	scheme, host, found := strings.Cut(text, "://")
	scheme = strings.ToLower(scheme)
	host = strings.TrimSuffix(host, "/")
	switch {
	case text == "":
		return "", "", errors.New("is empty; write URLs divided by commas, as in " + example)
	case !found || scheme != "http" && scheme != "https":
		return "", "", errors.New("does not begin with http:// or https://; every member of etcd needs it, as in " + example)
	case strings.Contains(host, "@"):
		return "", "", errors.New("holds a user, which is not supported; let etcd know this server by a client certificate (cert_file)")
	case strings.ContainsAny(host, "/?#"):
		return "", "", errors.New("has a path or a query; write host and port alone, as in " + example)
	}
	name, port, ok := cutPort(host)
	if !ok || !isName(name) {
		return "", "", errors.New("has no host and port; write them as in " + example)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", "", errors.New("has no port between 1 and 65535; etcd's is 2379 as a rule")
	}
	return scheme, strings.ToLower(host), nil
}

// cutPort divides host:port; an address of IPv6 stands in brackets.
func cutPort(s string) (host, port string, ok bool) {
	i := strings.LastIndexByte(s, ':')
	if i < 0 || strings.Trim(s[i+1:], "0123456789") != "" {
		return "", "", false
	}
	return s[:i], s[i+1:], true
}

func isName(host string) bool {
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		return closed && inner != "" && strings.Trim(inner, "0123456789abcdefABCDEF:.") == ""
	}
	return host != "" && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}

// plain returns a member that is reached without encryption over a network, ""
// if there is none.
func (e endpoints) plain() string {
	if e.scheme != "http" {
		return ""
	}
	for _, host := range e.hosts {
		name, _, _ := cutPort(host)
		if name != "localhost" && name != "[::1]" && !strings.HasPrefix(name, "127.") {
			return host
		}
	}
	return ""
}

// String returns the URLs divided by commas.
func (e endpoints) String() string {
	return e.scheme + "://" + strings.Join(e.hosts, ","+e.scheme+"://")
}
