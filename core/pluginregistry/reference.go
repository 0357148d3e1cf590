package pluginregistry

import (
	"errors"
	"fmt"
	"strings"
	"unicode"

	"oras.land/oras-go/v2/registry"

	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// SourcePrefix begins the source of a plugin that comes from a registry, as
// plugins.lock spells it.
const SourcePrefix = "oci:"

// maxReference bounds the part before the digest, as a lock does.
const maxReference = 256

// Reference names an artifact: registry and repository, and a tag, a digest or
// both.
type Reference struct {
	Registry   string // host, or host:port
	Repository string
	Tag        string // "" = none
	Digest     string // of the manifest, "sha256:" and 64 hex digits; "" = none
}

// ParseReference reads host/repository:tag, host/repository@sha256:digest or
// both at once, with or without oci: or oci:// before it.
func ParseReference(text string) (Reference, error) {
	bare := strings.TrimPrefix(strings.TrimPrefix(text, SourcePrefix), "//")
	r, err := parseReference(bare)
	if err != nil {
		return Reference{}, fmt.Errorf("reference %q: %w; it looks like oci://registry.example.com/plugins/my-policy:1.0.0", clip(text), err)
	}
	return r, nil
}

func parseReference(text string) (Reference, error) {
	var r Reference
	rest, digest, pinned := strings.Cut(text, "@")
	if len(rest) > maxReference {
		return r, fmt.Errorf("longer than %d characters", maxReference)
	}
	if pinned {
		if !isDigest(digest) {
			return r, errors.New("the digest is not sha256: and 64 lower-case hex digits")
		}
		r.Digest = digest
	}
	host, path, ok := strings.Cut(rest, "/")
	if !ok {
		return r, errors.New("there is no repository after the registry")
	}
	if !strings.ContainsAny(host, ".:") && host != "localhost" {
		return r, fmt.Errorf("%q is no registry: it needs a domain or a port", host)
	}
	if strings.Contains(host, "[") {
		return r, errors.New("a registry is named, not given as an IPv6 address: give it a name in /etc/hosts")
	}
	if err := registriesfile.CheckHost(host); err != nil {
		return r, err
	}
	r.Registry = host
	r.Repository, r.Tag, ok = strings.Cut(path, ":")
	o := registry.Reference{Registry: host, Repository: r.Repository, Reference: r.Tag}
	if o.ValidateRepository() != nil {
		return r, fmt.Errorf("%q is no repository: lower-case letters, digits and . _ - /", r.Repository)
	}
	if ok && o.ValidateReferenceAsTag() != nil {
		return r, fmt.Errorf("%q is no tag: at most 128 letters, digits and . _ -", r.Tag)
	}
	return r, nil
}

// String returns the reference without a scheme.
func (r Reference) String() string {
	text := r.Registry + "/" + r.Repository
	if r.Tag != "" {
		text += ":" + r.Tag
	}
	if r.Digest != "" {
		text += "@" + r.Digest
	}
	return text
}

// Source is the reference as the source of a lock entry; it needs the digest.
func (r Reference) Source() string { return SourcePrefix + r.String() }

// Pinned returns the reference with that digest.
func (r Reference) Pinned(digest string) Reference {
	r.Digest = digest
	return r
}

// wanted is what a registry is asked for.
func (r Reference) wanted() (string, error) {
	switch {
	case r.Digest != "":
		return r.Digest, nil
	case r.Tag != "":
		return r.Tag, nil
	}
	return "", fmt.Errorf("reference %s has neither a tag nor a digest; add one, as in %s:1.0.0", r, r)
}

const digestPrefix = "sha256:"

// isDigest accepts the only form of digest that locks and the store have.
func isDigest(s string) bool {
	hex, ok := strings.CutPrefix(s, digestPrefix)
	return ok && isHex(hex)
}

func isHex(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') })
}

// clip makes foreign text fit into a line of output.
func clip(text string) string {
	const most = 200
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.In(r, unicode.Bidi_Control, unicode.Zl, unicode.Zp) || r == '\ufffd' {
			return '?'
		}
		return r
	}, text)
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}
