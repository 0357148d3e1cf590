package cleanup

import (
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// kubepods is the cgroup below which a kubelet keeps its pods.
const kubepods = "kubepods"

// inHierarchies are the places of these cgroups in every hierarchy.
func (j *job) inHierarchies(names []string) []string {
	if len(names) == 0 {
		return nil
	}
	mounts, err := j.host.CgroupMounts()
	j.fail("cgroups", err)
	var out []string
	for _, m := range mounts {
		for _, name := range names {
			out = append(out, filepath.Join(m, name))
		}
	}
	return out
}

// removeCgroups removes the cgroups of our containers and pods. All below
// kubepods goes where no other kubelet can have made it.
func (j *job) removeCgroups() {
	var names []string
	add := func(name string) {
		if !slices.ContainsFunc(names, func(above string) bool { return name == above || below(name, above) }) {
			names = append(names, name)
		}
	}
	if j.alone() {
		for _, top := range j.podCgroups {
			add(top)
		}
	}
	for _, c := range j.facts.containers {
		if pod := path.Dir(c.cgroup); c.pod != "" && strings.HasSuffix(path.Base(pod), c.pod) {
			add(pod)
		}
	}
	for _, c := range j.facts.containers {
		if c.cgroup != "" {
			add(c.cgroup)
		}
	}
	j.each("cgroups", "remove", "removed", j.present(j.inHierarchies(names)...), j.host.RemoveCgroup)
}

// findPodCgroups collects the places where our kubelet keeps all pods: those of
// the containers, the usual one, and below the cgroup that the server is
// confined to, which its shims tell when it is gone.
func (j *job) findPodCgroups() {
	add := func(name string) {
		if !slices.Contains(j.podCgroups, name) {
			j.podCgroups = append(j.podCgroups, name)
		}
	}
	add("/" + kubepods)
	for _, c := range j.facts.containers {
		if before, _, found := strings.Cut(c.cgroup+"/", "/"+kubepods+"/"); found {
			add(path.Join("/", before, kubepods))
		}
	}
	for _, p := range j.facts.processes {
		if p.PID == j.facts.server.PID || j.isShimOrRunc(p) {
			add(path.Join("/", p.Cgroup, kubepods))
		}
	}
}
