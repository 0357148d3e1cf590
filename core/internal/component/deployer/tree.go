package deployer

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/render/memtree"
	"github.com/cleat-dev/cleat/hostabi"
)

var errMoved = errors.New("it changed while it was being read")

// item is a place in the manifests directory that is one addon.
type item struct {
	rel        string
	kind       string            // a hostabi.DeployKind constant
	members    []string          // of a directory: paths below it, sorted
	err        error             // of a directory: why its members are not to be had
	companions map[string]string // pattern -> rel
}

// every returns the rel of each file that is part of the item.
func (i item) every() []string {
	out := slices.Collect(maps.Values(i.companions))
	if i.kind != hostabi.DeployKindDirectory {
		return append(out, i.rel)
	}
	for _, name := range i.members {
		out = append(out, path.Join(i.rel, name))
	}
	return out
}

// lister finds the items of one scan.
type lister struct {
	*scanner
	snap    *snapshot
	claims  []hostabi.DeployerManifest
	sources map[string]bool
	items   []item
}

// list adds the items in the directory rel and below.
func (l *lister) list(rel string, depth int) error {
	dir := l.abs(rel)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	l.snap.dirs = append(l.snap.dirs, dir)
	if depth > 0 && (l.sources[dir] || l.claimsDirectory(entries)) {
		i := item{rel: rel, kind: hostabi.DeployKindDirectory}
		i.err = l.walk(&i, "", entries, 1)
		l.items = append(l.items, i)
		return nil
	}
	first := len(l.items)
	for _, e := range entries {
		name := path.Join(rel, e.Name())
		if ignoredName(e.Name()) {
			continue
		}
		if base, ok := strings.CutSuffix(name, skipSuffix); ok {
			l.snap.skipped[base] = true
			continue
		}
		isDir := e.IsDir()
		// Only a link in the top directory may lead to another directory: that
		// is what people use, and it cannot make a loop of any length.
		if depth == 0 && e.Type()&fs.ModeSymlink != 0 {
			if info, err := os.Stat(l.abs(name)); err == nil {
				isDir = info.IsDir()
			}
		}
		switch {
		case isDir && depth < maxDepth:
			if err := l.list(name, depth+1); err != nil {
				return err
			}
		case isDir:
		case l.claimed(e.Name(), func(c hostabi.DeployerManifest) []string { return c.Archives }):
			l.items = append(l.items, item{rel: name, kind: hostabi.DeployKindArchive})
		default:
			l.items = append(l.items, item{rel: name, kind: hostabi.DeployKindFile})
		}
		if len(l.items) > maxFiles {
			return fmt.Errorf("more than %d files: keep only manifests here", maxFiles)
		}
	}
	l.items = append(l.items[:first:first], l.joinCompanions(rel, l.items[first:])...)
	return nil
}

func (l *lister) claimed(name string, patterns func(hostabi.DeployerManifest) []string) bool {
	return slices.ContainsFunc(l.claims, func(c hostabi.DeployerManifest) bool { return fits(patterns(c), name) })
}

func fits(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		_, ok := hostabi.MatchPattern(p, name)
		return ok
	})
}

// claimsDirectory reports whether a file directly in the directory makes all of
// it one addon.
func (l *lister) claimsDirectory(entries []fs.DirEntry) bool {
	return slices.ContainsFunc(entries, func(e fs.DirEntry) bool {
		return e.Type().IsRegular() && l.claimed(e.Name(), func(c hostabi.DeployerManifest) []string { return c.Directories })
	})
}

// walk adds the files of a directory to its item.
func (l *lister) walk(i *item, below string, entries []fs.DirEntry, depth int) error {
	if depth > maxTreeDepth {
		return fmt.Errorf("%s is deeper than %d directories", below, maxTreeDepth)
	}
	for _, e := range entries {
		name := path.Join(below, e.Name())
		switch {
		case ignoredMember(e):
		case e.IsDir():
			dir := l.abs(path.Join(i.rel, name))
			inside, err := os.ReadDir(dir)
			if err != nil {
				return err
			}
			l.snap.dirs = append(l.snap.dirs, dir)
			if err := l.walk(i, name, inside, depth+1); err != nil {
				return err
			}
		case !e.Type().IsRegular():
			return fmt.Errorf("%s is a link or no regular file, and links are not followed: put a copy there", name)
		case len(i.members) == maxTreeFiles:
			return fmt.Errorf("more than %d files: leave out what is not deployed", maxTreeFiles)
		default:
			i.members = append(i.members, name)
		}
	}
	slices.Sort(i.members)
	return nil
}

// ignoredMember reports whether something in a directory is an editor's or a
// version control's own business. Files with a dot may belong to a chart.
func ignoredMember(e fs.DirEntry) bool {
	name := e.Name()
	return e.IsDir() && strings.HasPrefix(name, ".") || strings.HasPrefix(name, ".#") || strings.HasPrefix(name, "#") ||
		strings.HasSuffix(name, "~") || strings.HasSuffix(name, ".swp")
}

// joinCompanions gives the companions among the items of the directory rel to
// what they belong to, and takes them out of the list. One that belongs to
// nothing is a file like any other.
func (l *lister) joinCompanions(rel string, items []item) []item {
	taken := map[string]bool{}
	for _, c := range l.claims {
		for _, pattern := range c.Companions {
			for _, companion := range items {
				star, ok := hostabi.MatchPattern(pattern, path.Base(companion.rel))
				if !ok || companion.kind != hostabi.DeployKindFile || path.Dir(companion.rel) != path.Clean(rel) {
					continue
				}
				for n, host := range items {
					if path.Dir(host.rel) != path.Clean(rel) || stem(host.rel) != star || !l.wants(c, pattern, host) {
						continue
					}
					if host.companions == nil {
						host.companions = map[string]string{}
					}
					host.companions[pattern] = companion.rel
					items[n], taken[companion.rel] = host, true
				}
			}
		}
	}
	return slices.DeleteFunc(items, func(i item) bool { return taken[i.rel] })
}

// wants reports whether the claims are for this item and what belongs to it by
// the pattern. A text file has companions only if every plugin that it may be
// for knows of them: a file beside a plain manifest is a manifest too.
func (l *lister) wants(c hostabi.DeployerManifest, pattern string, i item) bool {
	base := path.Base(i.rel)
	switch i.kind {
	case hostabi.DeployKindArchive:
		return fits(c.Archives, base)
	case hostabi.DeployKindDirectory:
		return slices.ContainsFunc(i.members, func(name string) bool { return fits(c.Directories, name) })
	}
	return fits(c.Files, base) && !fits(c.Companions, base) && !slices.ContainsFunc(l.claims, func(other hostabi.DeployerManifest) bool {
		return fits(other.Files, base) && !slices.Contains(other.Companions, pattern)
	})
}

// assemble returns the state of an item.
func (s *scanner) assemble(i item) *manifestFile {
	if i.kind == hostabi.DeployKindFile && len(i.companions) == 0 {
		return s.visit(i.rel, i.rel, readText)
	}
	f := &manifestFile{kind: i.kind, rel: i.rel, path: s.abs(i.rel), err: i.err}
	switch i.kind {
	case hostabi.DeployKindFile:
		own := s.visit(i.rel, i.rel, readText)
		f.checksum, f.content, f.err, f.pending = own.checksum, own.content, own.err, own.pending
	case hostabi.DeployKindArchive:
		s.addPart(f, path.Base(i.rel), i.rel, readArchive)
	case hostabi.DeployKindDirectory:
		s.addMembers(f, i)
	}
	for pattern, rel := range i.companions {
		c := s.visit(rel, i.rel, readText)
		f.pending = f.pending || c.pending
		if c.err != nil && f.err == nil {
			f.err = fmt.Errorf("%s, which belongs to it: %w", path.Base(rel), c.err)
		}
		if f.companions == nil {
			f.companions = map[string]string{}
		}
		f.companions[pattern] = c.content
	}
	if f.pending {
		p := s.pending(i.rel)
		p.kind = i.kind
		return p
	}
	f.checksum = digestOfParts(s.salt, f)
	return f
}

func (s *scanner) addMembers(f *manifestFile, i item) {
	now, total := s.now(), int64(0)
	for _, name := range i.members {
		rel := path.Join(i.rel, name)
		s.addPart(f, name, rel, readMember)
		seen := s.seen[rel]
		if seen == nil {
			continue
		}
		f.pending = f.pending || seen.age(now) < treeSettleTime
		if total += seen.sig.size; total > maxTreeSize && f.err == nil {
			f.err = errTreeTooLarge
		}
		if f.err != nil {
			return // the rest need not be read
		}
	}
}

func (s *scanner) addPart(f *manifestFile, name, rel string, how reading) {
	part := s.visit(rel, f.rel, how)
	went := how == readMember && errors.Is(part.err, fs.ErrNotExist) // since the directory was listed
	f.pending = f.pending || part.pending || went
	if part.err != nil && f.err == nil && !went {
		f.err = fmt.Errorf("%s: %w", name, part.err)
	}
	if f.parts == nil {
		f.parts = map[string]string{}
	}
	f.parts[name] = part.checksum
}

// digestOfParts is the checksum of everything that a rendering depends on: of
// each file, its name and content; of the companions; and the salt.
func digestOfParts(salt string, f *manifestFile) string {
	sum := sha256.New()
	fmt.Fprintf(sum, "%q %q %q\n", salt, f.kind, f.checksum)
	for _, name := range slices.Sorted(maps.Keys(f.parts)) {
		fmt.Fprintf(sum, "%q %q\n", name, f.parts[name])
	}
	for _, pattern := range slices.Sorted(maps.Keys(f.companions)) {
		fmt.Fprintf(sum, "%q %q\n", pattern, digest([]byte(f.companions[pattern])))
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// names returns the files of a directory, sorted.
func (f *manifestFile) names() []string {
	if f.kind != hostabi.DeployKindDirectory {
		return nil
	}
	return slices.Sorted(maps.Keys(f.parts))
}

// tree reads an archive or directory into memory, exactly as its checksum says;
// nil for a text file.
func (f *manifestFile) tree() (fs.FS, error) {
	if f.kind == hostabi.DeployKindFile {
		return nil, nil
	}
	dir, how := f.path, readMember
	if f.kind == hostabi.DeployKindArchive {
		dir, how = filepath.Dir(f.path), readArchive
	}
	files := make(map[string][]byte, len(f.parts))
	left := int64(maxTreeSize)
	for name, want := range f.parts {
		content, err := readPart(filepath.Join(dir, filepath.FromSlash(name)), how, left)
		if err != nil {
			return nil, err
		}
		if digest(content) != want {
			return nil, fmt.Errorf("%s: %w", name, errMoved)
		}
		left -= int64(len(content))
		files[name] = content
	}
	return memtree.New(files)
}

func readPart(name string, how reading, most int64) ([]byte, error) {
	file, err := openFile(name, how)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, most+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if int64(len(content)) > most {
		return nil, errTreeTooLarge
	}
	return content, nil
}
