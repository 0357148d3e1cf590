package main

import "strings"

// image is a reference as container runtimes read it: nginx is
// docker.io/library/nginx. Its parts stay in the bytes it was read from.
type image struct {
	domain  []byte // registry with port; nil = docker.io, which went without saying
	library bool   // path lacks "library/"
	path    []byte // repository
	rest    []byte // :tag@digest, each part optional
	digest  bool
}

// Bounds of references that runtimes take.
const (
	maxName = 255
	maxTag  = 128
)

const hub = "docker.io"

// parseImage reads a reference. ok is false for one that no runtime takes, and
// for the id of an image, which names no registry.
func parseImage(text []byte) (img image, ok bool) {
	name := text
	for i, c := range text {
		if c == '@' {
			name, img.rest, img.digest = text[:i], text[i:], true
			break
		}
	}
	tag := -1
	for i, c := range name {
		switch c {
		case '/':
			tag = -1 // it was the port of a registry
		case ':':
			tag = i
		}
	}
	if tag >= 0 {
		if !isTag(name[tag+1:]) {
			return image{}, false
		}
		name, img.rest = name[:tag], text[tag:]
	}
	if img.digest && !isDigest(afterAt(img.rest)) {
		return image{}, false
	}
	img.path = name
	if i := slash(name); i >= 0 && isRegistry(name[:i]) {
		img.domain, img.path = name[:i], name[i+1:]
		if !isDomain(img.domain) {
			return image{}, false
		}
		if string(img.domain) == hub || string(img.domain) == "index."+hub {
			img.domain = nil
		}
	}
	img.library = img.domain == nil && slash(img.path) < 0
	if len(name)+len("docker.io/library/") > maxName || !isPath(img.path) {
		return image{}, false
	}
	return img, !(img.library && isID(img.path, tag >= 0))
}

// isID reports whether what looks like a repository of the hub is the id of an
// image on the node.
func isID(path []byte, tagged bool) bool {
	if tagged {
		return string(path) == "sha256"
	}
	return len(path) == 64 && isHex(path)
}

func afterAt(rest []byte) []byte {
	for i, c := range rest {
		if c == '@' {
			return rest[i+1:]
		}
	}
	return nil
}

func slash(name []byte) int {
	for i, c := range name {
		if c == '/' {
			return i
		}
	}
	return -1
}

// isRegistry reports whether the first part of a name is a registry: runtimes
// tell it from a repository by these signs.
func isRegistry(first []byte) bool {
	if string(first) == "localhost" {
		return true
	}
	for _, c := range first {
		if c == '.' || c == ':' || c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// isDomain accepts a host name or address in brackets, with a port or not.
func isDomain(s []byte) bool {
	host := s
	for i := len(s) - 1; i >= 0 && s[i] != ']'; i-- {
		if s[i] == ':' {
			if host = s[:i]; i+1 == len(s) || !each(s[i+1:], isDigit) {
				return false
			}
			break
		}
	}
	if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
		return each(host[1:len(host)-1], func(c byte) bool { return isHexDigit(c) || c >= 'A' && c <= 'F' || c == ':' })
	}
	before := byte('.')
	for i, c := range host {
		edge := before == '.' || i+1 == len(host) || host[i+1] == '.'
		if !(isAlphanumeric(c) || c >= 'A' && c <= 'Z' || c == '-' && !edge || c == '.' && before != '.' && i+1 < len(host)) {
			return false
		}
		before = c
	}
	return len(host) > 0
}

// isPath accepts a repository: parts of lower-case letters and digits, divided
// inside by one dot, one or two underscores, or dashes.
func isPath(s []byte) bool {
	run := 0       // bytes of the separator so far
	before := true // a separator may not stand here
	for i, c := range s {
		switch {
		case isAlphanumeric(c):
			run, before = 0, false
		case c == '/':
			if before || run > 0 {
				return false
			}
			before = true
		case before:
			return false
		case c == '-' && (run == 0 || s[i-1] == '-'), c == '.' && run == 0, c == '_' && (run == 0 || run == 1 && s[i-1] == '_'):
			run++
		default:
			return false
		}
	}
	return !before && run == 0
}

func isTag(s []byte) bool {
	return len(s) > 0 && len(s) <= maxTag && s[0] != '.' && s[0] != '-' && each(s, func(c byte) bool {
		return isAlphanumeric(c) || c >= 'A' && c <= 'Z' || c == '_' || c == '.' || c == '-'
	})
}

// isDigest accepts the digests that runtimes can check.
func isDigest(s []byte) bool {
	for _, known := range [...]struct {
		name string
		size int
	}{{"sha256:", 64}, {"sha384:", 96}, {"sha512:", 128}} {
		if n := len(known.name); len(s) == n+known.size && string(s[:n]) == known.name {
			return isHex(s[n:])
		}
	}
	return false
}

func isHex(s []byte) bool { return each(s, isHexDigit) }

func isHexDigit(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'f' }

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isAlphanumeric(c byte) bool { return isDigit(c) || c >= 'a' && c <= 'z' }

func each(s []byte, ok func(byte) bool) bool {
	for _, c := range s {
		if !ok(c) {
			return false
		}
	}
	return true
}

// equal compares a host name with one in lower case.
func equal(s []byte, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i, c := range s {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c != lower[i] {
			return false
		}
	}
	return true
}

// registry returns the registry in lower case.
func (img image) registry() string {
	if img.domain == nil {
		return hub
	}
	return strings.ToLower(string(img.domain))
}

// repository returns the whole path.
func (img image) repository() string {
	if img.library {
		return "library/" + string(img.path)
	}
	return string(img.path)
}
