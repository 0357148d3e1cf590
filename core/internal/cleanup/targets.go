package cleanup

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// binDir is where an installation puts programs.
const binDir = "/usr/local/bin"

// target is what uninstall deletes of one kind.
type target struct {
	kind  string
	paths []string
}

// dataEntries is all that cleat makes in a data directory. Other files in it are
// somebody's own. The halves have a lock, which says that it is a data directory,
// so they go last: a server has one in "server", an agent in "agent".
func dataEntries() []string { return []string{"plugins", "data", "agent", "server"} }

// systemDirs hold what is not cleat's, whatever somebody chose for a data directory.
func systemDirs() []string {
	return []string{"/", "/bin", "/boot", "/dev", "/etc", "/home", "/lib", "/lib64", "/media", "/mnt", "/opt", "/proc", "/root", "/run", "/sbin",
		"/srv", "/sys", "/tmp", "/usr", "/usr/bin", "/usr/lib", "/usr/local", "/usr/local/bin", "/usr/sbin", "/usr/share",
		"/var", "/var/lib", "/var/log", "/var/run", "/var/tmp", paths.KubeletDir, paths.EtcDir, paths.RunDir}
}

// refuseData says why the data directory is not one that may be deleted.
func (j *job) refuseData() error {
	data := string(j.Data)
	if !filepath.IsAbs(data) {
		return fmt.Errorf("data-dir %q: is not an absolute path", data)
	}
	if info, err := os.Lstat(j.at(data)); err == nil && info.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("data-dir %q: is a symbolic link; give %q as --data-dir, and delete the link by hand", data, j.real(data))
	}
	if real := j.real(data); slices.Contains(systemDirs(), filepath.Clean(data)) || slices.Contains(systemDirs(), real) || filepath.Dir(real) == "/home" {
		return fmt.Errorf("data-dir %q: is a directory of the system or somebody's home; delete what is cleat's in it by hand, after `cleat killall`: %s",
			data, strings.Join(dataEntries(), ", "))
	}
	if len(j.present(j.dataPaths()...)) > 0 && len(j.present(j.dataLock(roleServer), j.dataLock(roleAgent))) == 0 {
		return fmt.Errorf("data-dir %q: no server or agent ever ran with it, since neither %s nor %s is there; give the right --data-dir, or delete it by hand",
			data, j.dataLock(roleServer), j.dataLock(roleAgent))
	}
	return nil
}

func (j *job) dataPaths() []string {
	var all []string
	for _, e := range dataEntries() {
		all = append(all, filepath.Join(string(j.Data), e))
	}
	return all
}

// targets lists what uninstall deletes, in this order: what tells where the rest
// is comes late, and what can be called again last.
func (j *job) targets() []target {
	var all []target
	add := func(kind string, some ...string) {
		if some = j.present(some...); len(some) > 0 {
			all = append(all, target{kind, some})
		}
	}
	add("kubeconfig", j.ownKubeconfig())
	add("CNI configuration", j.ownConflist())
	add("pod logs", j.logs()...)
	if j.madeKubeletDir() {
		add("kubelet", paths.KubeletDir)
	}
	add("runtime files", paths.RunDir)
	add("data", j.dataPaths()...)
	add("configuration", paths.EtcDir)
	add("tools", j.toolLinks()...)
	add("service", j.unitFiles()...)
	add("program", j.installed())
	return all
}

// installed is this program where an installation put it, with its service.
func (j *job) installed() string {
	if filepath.Dir(j.Program) != binDir || !j.ownsUnit() {
		return ""
	}
	return j.Program
}

// removeFiles deletes the targets, up to the first kind before the data of which
// something stays.
func (j *job) removeFiles(ctx context.Context, targets []target) {
	for _, t := range targets {
		if t.kind == "runtime files" {
			continue // killall's, which says so
		}
		if t.kind == "data" && len(j.errs) > 0 {
			j.fail(t.kind, fmt.Errorf("%s stays until the rest is gone, for it tells what else is cleat's; so do configuration and program; try again", j.Data))
			return
		}
		if t.kind == "service" && !j.DryRun && exists(j.at("/run/systemd/system")) {
			j.fail(t.kind, j.systemctl(ctx, "disable", unitName))
		}
		j.each(t.kind, "delete", "deleted", t.paths, func(path string) error {
			if t.kind == "data" && len(j.errs) > 0 {
				return errors.New("stays until the rest of the data is gone")
			}
			return j.delete(path)
		})
		if t.kind == "service" && !j.DryRun && exists(j.at("/run/systemd/system")) {
			j.fail(t.kind, j.systemctl(ctx, "daemon-reload"))
		}
		if t.kind == "data" && len(j.errs) > 0 {
			return
		}
	}
	if j.DryRun {
		return
	}
	for _, dir := range []string{paths.CNIConfDir, filepath.Dir(paths.CNIConfDir), podLogs, containerLogs, string(j.Data)} {
		j.prune(dir)
	}
	if left, err := os.ReadDir(j.at(string(j.Data))); err == nil && len(left) > 0 {
		var names []string
		for _, e := range left {
			names = append(names, e.Name())
		}
		j.tell("data", "%s stays, for it holds what is not cleat's: %s", j.Data, list(names))
	}
	if j.Program != "" && exists(j.at(j.Program)) {
		j.tell("program", "%s stays; delete it if it is not wanted either", j.Program)
	}
}

// ownKubeconfig is the administrator's kubeconfig where it is not in /etc/cleat,
// if it is still this cluster's.
func (j *job) ownKubeconfig() string {
	if j.Kubeconfig == "" || below(j.Kubeconfig, paths.EtcDir) {
		return ""
	}
	ca, err := readBounded(j.at(j.Data.TLS("server-ca.crt")))
	if err != nil {
		return ""
	}
	content, err := readBounded(j.at(j.Kubeconfig))
	if err != nil || !bytes.Contains(content, []byte(base64.StdEncoding.EncodeToString(ca))) {
		return ""
	}
	return j.Kubeconfig
}

// ownConflist is our CNI configuration, unless somebody edited it.
func (j *job) ownConflist() string {
	n := j.facts.network
	if n.Conflist == "" {
		return ""
	}
	path := filepath.Join(paths.CNIConfDir, n.Conflist)
	content, err := readBounded(j.at(path))
	if err != nil {
		return ""
	}
	if digest := sha256.Sum256(content); hex.EncodeToString(digest[:]) != n.ConflistSum {
		j.tell("CNI configuration", "%s stays, for it was edited", path)
		return ""
	}
	return path
}

// logs are the log directories of our pods, and the links to files in them.
func (j *job) logs() []string {
	var out []string
	for _, c := range j.facts.containers {
		if c.logs != "" && !slices.Contains(out, c.logs) {
			out = append(out, c.logs)
		}
	}
	entries, err := os.ReadDir(j.at(podLogs))
	if err != nil {
		return out
	}
	for _, e := range entries {
		// <namespace>_<name>_<uid>; names have no underscore.
		dir := filepath.Join(podLogs, e.Name())
		uid := e.Name()[strings.LastIndex(e.Name(), "_")+1:]
		if slices.Contains(j.facts.pods, uid) && !slices.Contains(out, dir) {
			out = append(out, dir)
		}
	}
	links, err := os.ReadDir(j.at(containerLogs))
	if err != nil {
		return out
	}
	for _, l := range links {
		link := filepath.Join(containerLogs, l.Name())
		to, err := os.Readlink(j.at(link))
		if err == nil && slices.ContainsFunc(out, func(dir string) bool { return below(to, dir) }) {
			out = append(out, link)
		}
	}
	return out
}

// madeKubeletDir: our kubelet was here, no other one is, and nothing in the
// directory is what only another installation puts there.
func (j *job) madeKubeletDir() bool {
	if !exists(j.at(paths.KubeletDir)) {
		return false
	}
	foreign := j.present(paths.KubeletDir+"/config.yaml", paths.KubeletDir+"/kubeadm-flags.env", paths.KubeletDir+"/pki")
	if j.alone() && len(foreign) == 0 {
		return true
	}
	if j.facts.node {
		j.tell("kubelet", "%s stays, for another kubelet uses it too", paths.KubeletDir)
	}
	return false
}

// toolLinks are the links under a tool's name to this program, beside it and in
// the usual place.
func (j *job) toolLinks() []string {
	if j.Program == "" {
		return nil
	}
	var out []string
	for _, dir := range []string{filepath.Dir(j.Program), binDir} {
		for _, name := range []string{"kubectl", "ctr", "crictl"} {
			link := filepath.Join(dir, name)
			to, err := os.Readlink(j.at(link))
			if err != nil || slices.Contains(out, link) {
				continue
			}
			if !filepath.IsAbs(to) {
				to = filepath.Join(dir, to)
			}
			real, err := filepath.EvalSymlinks(j.at(to))
			if err == nil && real == j.at(j.Program) {
				out = append(out, link)
			}
		}
	}
	return out
}
