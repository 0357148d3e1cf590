package cleanup

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/paths"
)

// unmount takes away what containers and volumes left mounted, the last first.
func (j *job) unmount(ctx context.Context) {
	const kind = "mounts"
	all, err := j.host.Mounts()
	if err != nil {
		j.fail(kind, err)
		return
	}
	var ours []string
	for _, m := range slices.Backward(all) {
		if j.isOurMount(m) {
			ours = append(ours, m)
		}
	}
	j.each(kind, "unmount", "unmounted", ours, func(mount string) error { return j.host.Unmount(ctx, mount) })
}

// isOurMount: below the run directory, where root file systems are, and where
// containerd unpacks images; of the kubelet's directory all, or only our pods'
// where another kubelet uses it. The directories themselves may be disks.
func (j *job) isOurMount(mount string) bool {
	mount = normal(mount)
	kubelet := j.real(paths.KubeletDir)
	switch {
	case below(mount, j.real(paths.RunDir)),
		below(mount, j.real(filepath.Join(j.Data.Containerd(), "tmpmounts"))),
		below(mount, j.real(j.Data.Kubelet())):
		return true
	case !below(mount, kubelet):
		return false
	case j.alone():
		return true
	}
	return slices.ContainsFunc(j.facts.pods, func(uid string) bool {
		return below(mount, path.Join(kubelet, "pods", uid))
	})
}

func below(p, dir string) bool { return strings.HasPrefix(p, strings.TrimSuffix(dir, "/")+"/") }

// removeNetns removes the pods' network namespaces, which are mounts on files.
func (j *job) removeNetns(ctx context.Context) {
	var all []string
	for _, c := range j.facts.containers {
		all = append(all, c.netns)
	}
	for _, a := range j.attachments() {
		all = append(all, a.netns)
	}
	ours := j.present(all...)
	j.each("network namespaces", "remove", "removed", ours, func(ns string) error {
		err := j.host.Unmount(ctx, ns)
		if removed := os.Remove(j.at(ns)); removed != nil && !errors.Is(removed, fs.ErrNotExist) {
			return errors.Join(err, removed)
		}
		return nil // without the file, the mount is gone too
	})
}

// attachment is a file in which CNI keeps how a container was attached.
type attachment struct {
	file, container, netns string
}

// attachments are those to our network: of our containers, or of all where no
// other Kubernetes can have one of that name.
func (j *job) attachments() []attachment {
	var out []attachment
	files, err := filepath.Glob(j.at(paths.CNIResults) + "/*")
	j.fail("network namespaces", err)
	for _, file := range files {
		content, err := readBounded(file)
		if err != nil {
			continue // another's, or gone meanwhile
		}
		var a struct {
			Container string `json:"containerId"`
			Network   string `json:"networkName"`
			Netns     string `json:"netns"`
		}
		if json.Unmarshal(content, &a) != nil || a.Network == "" || a.Network != j.facts.network.name || !j.isOurs(a.Container) {
			continue
		}
		found := attachment{file: file, container: a.Container}
		if ns := normal(a.Netns); path.Dir(ns) == netnsDir && strings.HasPrefix(path.Base(ns), "cni-") {
			found.netns = ns
		}
		out = append(out, found)
	}
	return out
}

// isOurs reports whether an attachment to our network by this container is ours.
func (j *job) isOurs(id string) bool {
	return j.alone() || slices.ContainsFunc(j.facts.containers, func(c container) bool { return c.id == id })
}
