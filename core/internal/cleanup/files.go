package cleanup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// present are those of the paths that there are.
func (j *job) present(all ...string) []string {
	var out []string
	for _, p := range all {
		if p != "" && exists(j.at(p)) && !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
}

// removeRuntimeFiles removes what means nothing without the processes: sockets,
// bundles, and the addresses that CNI keeps for pods.
func (j *job) removeRuntimeFiles() {
	files := append(j.present(paths.RunDir), j.shimFiles()...)
	for _, a := range j.attachments() {
		files = append(files, a.file[len(j.root):])
	}
	files = append(files, j.addresses()...)
	j.each("runtime files", "delete", "deleted", files, j.delete)
	if j.DryRun {
		return
	}
	spaces, err := os.ReadDir(j.at(runcStates))
	if err == nil {
		for _, e := range spaces {
			j.prune(filepath.Join(runcStates, e.Name()))
		}
	}
	for _, dir := range []string{runcStates, shimSockets, filepath.Dir(shimSockets), netnsDir} {
		j.prune(dir)
	}
	if name := j.facts.network.name; name != "" {
		j.prune(filepath.Join(cniDir, "networks", name), "lock", "last_reserved_ip.0", "last_reserved_ip.1")
		for _, dir := range []string{"results", "networks", "cache", ""} {
			j.prune(filepath.Join(cniDir, dir))
		}
	}
}

// shimFiles are what shims and runc keep of our containers where they keep it of
// those of every containerd.
func (j *job) shimFiles() []string {
	var all []string
	for _, c := range j.facts.containers {
		if !isName(c.id) || strings.ContainsAny(c.id, `*?[\`) {
			continue
		}
		states, err := filepath.Glob(j.at(runcStates) + "/*/" + c.id)
		j.fail("runtime files", err)
		for _, state := range states {
			all = append(all, state[len(j.root):])
		}
		all = append(all, c.socket)
	}
	return j.present(all...)
}

// addresses are the files in which host-local reserves an address of our network;
// the first line is the container.
func (j *job) addresses() []string {
	name := j.facts.network.name
	if name == "" {
		return nil
	}
	dir := filepath.Join(cniDir, "networks", name)
	entries, err := os.ReadDir(j.at(dir))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		j.fail("runtime files", err)
	}
	var out []string
	for _, e := range entries {
		file := filepath.Join(dir, e.Name())
		if e.Name() == "lock" || strings.HasPrefix(e.Name(), "last_reserved_ip.") {
			continue
		}
		content, err := readBounded(j.at(file))
		if err != nil {
			continue // another's, or gone meanwhile
		}
		if id, _, _ := strings.Cut(string(content), "\n"); j.isOurs(strings.TrimSpace(id)) {
			out = append(out, file)
		}
	}
	return out
}

// prune removes a directory that holds nothing but the given files, and these.
func (j *job) prune(dir string, but ...string) {
	entries, err := os.ReadDir(j.at(dir))
	if err != nil || slices.ContainsFunc(entries, func(e fs.DirEntry) bool { return !slices.Contains(but, e.Name()) }) {
		return
	}
	for _, e := range entries {
		j.fail("runtime files", os.Remove(j.at(filepath.Join(dir, e.Name()))))
	}
	_ = os.Remove(j.at(dir)) // one that is a disk of its own stays
}

// delete deletes a file or a tree, but follows no link, and touches no disk that
// is mounted in it: either may hold anything.
func (j *job) delete(path string) error {
	link, err := os.Lstat(j.at(path))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if to, err := os.Stat(j.at(path)); link.Mode()&fs.ModeSymlink != 0 && err == nil && to.IsDir() {
		return fmt.Errorf("is a symbolic link to %s; delete both by hand", j.real(path))
	}
	mounts, err := j.host.Mounts()
	if err != nil {
		return err
	}
	real := j.real(path)
	for _, m := range mounts {
		if below(m, real) {
			return fmt.Errorf("%s is mounted in it; unmount that first, then try again", m)
		}
	}
	if !slices.Contains(mounts, real) {
		return os.RemoveAll(j.at(path))
	}
	if !link.IsDir() {
		return errors.New("is a mount; unmount it, then try again")
	}
	// A disk of its own is emptied.
	entries, err := os.ReadDir(j.at(path))
	errs := []error{err}
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(j.at(filepath.Join(path, e.Name()))))
	}
	return errors.Join(errs...)
}

// real is the place of a directory without links, and of anything else without
// links on the way to it: a link to a file is a thing of its own.
func (j *job) real(path string) string {
	resolve := func(p string) string {
		found, err := filepath.EvalSymlinks(j.at(p))
		if err != nil {
			return p
		}
		return "/" + strings.TrimPrefix(strings.TrimPrefix(found, j.root), "/")
	}
	if info, err := os.Stat(j.at(path)); err == nil && info.IsDir() {
		return resolve(path)
	}
	return filepath.Join(resolve(filepath.Dir(path)), filepath.Base(path))
}
