package pluginhost

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// Bounds of the limits a lock may set.
const (
	maxMemoryPages = 16384 // 1 GiB
	maxDeadlineMS  = 60_000
	maxPool        = 64
)

// SignerKey begins a signer that is a key: the SHA-256 of its public half (DER,
// SubjectPublicKeyInfo) in lower-case hex follows.
const SignerKey = "key:"

// Kinds of a plugin's source.
const (
	sourceEmbedded = "embedded"
	sourceFile     = "file"
	sourceOCI      = "oci"
)

// Validate reports everything that is wrong with the lock on its own, before
// any plugin is looked at.
func (l *Lock) Validate() error {
	if l.Version != LockVersion {
		return fmt.Errorf("plugins.lock: version is %d, this build reads version %d", l.Version, LockVersion)
	}
	if len(l.Plugins) > MaxLockPlugins {
		return fmt.Errorf("plugins.lock: %d plugins, at most %d are possible", len(l.Plugins), MaxLockPlugins)
	}
	var errs []error
	seen, shadows := map[string]bool{}, map[string]bool{}
	for i := range l.Plugins {
		p := &l.Plugins[i]
		name := p.Name
		if name == "" {
			name = fmt.Sprintf("number %d", i+1)
		}
		fail := func(format string, args ...any) {
			errs = append(errs, fmt.Errorf("plugins.lock: plugin %s: %s", name, fmt.Sprintf(format, args...)))
		}
		names := seen
		if p.Shadow {
			names = shadows
		}
		if names[p.Name] {
			fail("is named twice; give each plugin one entry, and at most one more with shadow = true")
		}
		names[p.Name] = true
		if i > 0 && p.Order <= l.Plugins[i-1].Order {
			fail("order %d does not come after %d of %s; entries stand in ascending order",
				p.Order, l.Plugins[i-1].Order, l.Plugins[i-1].Name)
		}
		p.check(fail)
	}
	for _, p := range l.Plugins {
		if p.Shadow && !seen[p.Name] {
			errs = append(errs, fmt.Errorf("plugins.lock: plugin %s: is a shadow of a plugin that has no entry; add the one it runs beside", p.Name))
		}
	}
	return errors.Join(errs...)
}

func (p *LockedPlugin) check(fail func(string, ...any)) {
	if !isPluginName(p.Name) {
		fail("name %q must be lower-case letters, digits and dashes, at most 63", p.Name)
	}
	if p.Version == "" || len(p.Version) > 64 || !printable(p.Version) {
		fail("version %q must be 1 to 64 printable characters", p.Version)
	}
	if _, _, err := p.parseSource(); err != nil {
		fail("%v", err)
	}
	if !isDigest(p.SHA256) {
		fail("sha256 %q must be 64 lower-case hex digits", p.SHA256)
	}
	if !isABIVersion(p.ABI) {
		fail("abi %q must look like %q", p.ABI, "1.0")
	}
	if len(p.Points) == 0 {
		fail("points is empty; name at least one of %v", hostabi.Points())
	}
	checkNames(fail, "points", p.Points, hostabi.Points())
	checkNames(fail, "capabilities", p.Capabilities, hostabi.Capabilities())
	checkPaths(fail, "read_paths", p.ReadPaths)
	checkPaths(fail, "write_paths", p.WritePaths)
	checkLookups(fail, p.Lookups)
	if n := p.Limits.MemoryPages; n < 1 || n > maxMemoryPages {
		fail("limits.memory_pages is %d, must be 1 to %d (64 KiB each)", n, maxMemoryPages)
	}
	if n := p.Limits.DeadlineMS; n < 1 || n > maxDeadlineMS {
		fail("limits.deadline_ms is %d, must be 1 to %d", n, maxDeadlineMS)
	}
	if n := p.Limits.PoolMax; n < 1 || n > maxPool {
		fail("limits.pool_max is %d, must be 1 to %d", n, maxPool)
	}
	if p.FailurePolicy != hostabi.FailurePolicyFail && p.FailurePolicy != hostabi.FailurePolicyIgnore {
		fail("failure_policy is %q, must be %q or %q", p.FailurePolicy, hostabi.FailurePolicyFail, hostabi.FailurePolicyIgnore)
	}
	p.checkConfig(fail)
	if key, ok := strings.CutPrefix(p.Signer, SignerKey); p.Signer != "" && (!ok || !isDigest(key)) {
		fail("signer is %q, must be empty or %s and the SHA-256 of a public key in hex", p.Signer, SignerKey)
	}
	if p.ConformanceSHA256 != "" && !isDigest(p.ConformanceSHA256) {
		fail("conformance_sha256 %q must be empty or 64 lower-case hex digits", p.ConformanceSHA256)
	}
}

func (p *LockedPlugin) checkConfig(fail func(string, ...any)) {
	config, err := p.CanonicalConfig()
	if err != nil {
		fail("%v", err)
		return
	}
	if len(config) > hostabi.MaxValueBytes {
		fail("config is %d bytes as JSON, at most %d fit", len(config), hostabi.MaxValueBytes)
	}
	if found := Digest(config); p.ConfigSHA256 != found {
		fail("config_sha256 is locked as %q, but config hashes to %q; if you meant to change config, run `cleat plugin lock`",
			p.ConfigSHA256, found)
	}
}

// parseSource splits the source and checks its form.
func (p *LockedPlugin) parseSource() (kind, rest string, err error) {
	kind, rest, _ = strings.Cut(p.Source, ":")
	switch kind {
	case sourceEmbedded:
		if !isWasmFile(rest) {
			return "", "", fmt.Errorf("source %q must be embedded:<name>.wasm", p.Source)
		}
	case sourceFile:
		if !filepath.IsLocal(rest) || filepath.Clean(rest) != rest || !printable(rest) {
			return "", "", fmt.Errorf("source %q must be file:<path>, relative to the plugins directory and inside it", p.Source)
		}
	case sourceOCI:
		if !isOCIReference(rest) {
			return "", "", fmt.Errorf("source %q must be oci:<reference>@sha256:<64 hex digits>", p.Source)
		}
	default:
		return "", "", fmt.Errorf("source %q is neither embedded:, file: nor oci: something", p.Source)
	}
	return kind, rest, nil
}

// isWord reports whether s has min to max bytes, all ASCII letters, digits or
// in extra.
func isWord(s, extra string, min, max int) bool {
	return len(s) >= min && len(s) <= max && !strings.ContainsFunc(s, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(extra, r))
	})
}

func isPluginName(s string) bool {
	return isWord(s, "-", 1, 63) && s == strings.ToLower(s) && s[0] != '-' && s[len(s)-1] != '-'
}

func isWasmFile(s string) bool {
	stem, ok := strings.CutSuffix(s, ".wasm")
	return ok && isWord(stem, "._-", 1, 128) && stem[0] != '.' && stem[0] != '-'
}

// isABIVersion accepts "1.0": two decimal numbers without leading zeros.
func isABIVersion(s string) bool {
	major, minor, ok := strings.Cut(s, ".")
	return ok && isNumber(major) && isNumber(minor)
}

func isNumber(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && strconv.FormatUint(n, 10) == s
}

func isOCIReference(s string) bool {
	ref, digest, ok := strings.Cut(s, "@sha256:")
	return ok && isWord(ref, "._:/-", 1, 256) && isDigest(digest)
}

func isDigest(s string) bool {
	return len(s) == 64 && !strings.ContainsFunc(s, func(r rune) bool { return !(r >= '0' && r <= '9' || r >= 'a' && r <= 'f') })
}

func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return disruptive(r) || r == '�' })
}

func checkNames[T ~string](fail func(string, ...any), field string, got, known []T) {
	for i, n := range got {
		if !slices.Contains(known, n) {
			fail("%s names %q; this build knows %v", field, n, known)
		}
		if slices.Contains(got[:i], n) {
			fail("%s names %q twice", field, n)
		}
	}
}

// checkLookups wants kinds, each once.
func checkLookups(fail func(string, ...any), kinds []string) {
	if len(kinds) > hostabi.MaxLookups {
		fail("lookups has %d kinds, at most %d are possible", len(kinds), hostabi.MaxLookups)
		return
	}
	for i, text := range kinds {
		if _, err := hostabi.ParseKind(text); err != nil {
			fail("lookups: %v", err)
		}
		if slices.Contains(kinds[:i], text) {
			fail("lookups names %q twice", text)
		}
	}
}

// checkPaths wants canonical field paths, each once.
func checkPaths(fail func(string, ...any), field string, paths []string) {
	if len(paths) > hostabi.MaxPaths {
		fail("%s has %d paths, at most %d are possible", field, len(paths), hostabi.MaxPaths)
		return
	}
	for i, text := range paths {
		path, err := hostabi.ParseFieldPath(text)
		switch {
		case err != nil:
			fail("%s: %v", field, err)
		case path.String() != text:
			fail("%s: %q is spelt %q", field, text, path.String())
		case slices.Contains(paths[:i], text):
			fail("%s names %q twice", field, text)
		}
	}
}
