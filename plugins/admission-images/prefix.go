package main

import (
	"errors"
	"strings"

	"github.com/cleat-dev/cleat/pluginsdk/admission"
)

// prefix is a registry, or a repository of it with all below: docker.io,
// docker.io/library, *.example.org.
type prefix struct {
	text   string // as it was given, the registry in lower case
	domain string // in lower case; begins with a dot when it stands for all below
	path   string // "" = every repository
}

// parsePrefix reads an entry of the configuration; the error lacks the key.
func parsePrefix(text string, wildcard bool) (prefix, error) {
	domain, path, _ := strings.Cut(text, "/")
	p := prefix{domain: strings.ToLower(domain), path: path}
	p.text = p.domain + text[len(domain):]
	host := p.domain
	if all, ok := strings.CutPrefix(p.domain, "*."); ok && wildcard {
		host, p.domain = all, "."+all
	}
	quoted := admission.Quote([]byte(text))
	switch {
	case !isRegistry([]byte(host)) || !isDomain([]byte(host)):
		return prefix{}, errors.New(quoted + " does not begin with a registry; write docker.io/library/nginx, for example")
	case host == "index."+hub:
		return prefix{}, errors.New(quoted + " is another name of docker.io; write docker.io")
	case strings.HasSuffix(text, "/") || path != "" && !isPath([]byte(path)):
		return prefix{}, errors.New(quoted + ": what follows the registry is no repository; write a registry, or a repository without tag")
	}
	return p, nil
}

// covers reports whether the image is of the registry or below the repository.
// It allocates nothing.
func (p *prefix) covers(img image) bool {
	if !p.coversDomain(img.domain) {
		return false
	}
	if p.path == "" {
		return true
	}
	path := p.path
	if img.library {
		const library = "library"
		below, ok := strings.CutPrefix(path, library+"/")
		return path == library || ok && string(img.path) == below
	}
	n := len(path)
	return len(img.path) >= n && string(img.path[:n]) == path && (len(img.path) == n || img.path[n] == '/')
}

func (p *prefix) coversDomain(domain []byte) bool {
	if p.domain[0] != '.' {
		if domain == nil {
			return p.domain == hub
		}
		return equal(domain, p.domain)
	}
	// The hub's name has no other below it, but may be below another.
	if domain == nil {
		return strings.HasSuffix(hub, p.domain)
	}
	n := len(domain) - len(p.domain)
	return n > 0 && equal(domain[n:], p.domain)
}

// rewrite sends the images of one prefix elsewhere.
type rewrite struct {
	from prefix
	to   string
}

// apply returns the reference of an image that from covers.
func (r *rewrite) apply(img image) string {
	path := img.repository()
	if r.from.path != "" {
		// What is left begins with a slash, or is empty.
		path = path[len(r.from.path):]
	} else {
		path = "/" + path
	}
	return r.to + path + string(img.rest)
}
