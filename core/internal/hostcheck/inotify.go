package hostcheck

import (
	"fmt"
	"strconv"
	"strings"
)

const (
	maxLooked    = 100_000 // open files of other programs that are looked at
	spareInotify = 32      // instances, for pods of the same user and `kubectl logs -f`
	spareWatches = 4096
)

// inotify compares what is left of the kernel's limits for a user with what is
// going to be taken. Beyond them containerd does not start and pods fail at random.
func (c *checker) inotify() {
	instances, watches, all := c.inotifyInUse()
	need := uint64(c.n.Inotify)
	if c.running {
		need = 0 // they are among those in use
	}
	row := func(name, sysctl string, used, need uint64, purpose, raised string) {
		text, err := c.m.ReadFile("/proc/sys/fs/inotify/" + sysctl)
		if err != nil {
			c.add(name, Warning, err.Error(), purpose, "mount /proc")
			return
		}
		limit, err := strconv.ParseUint(strings.TrimSpace(text), 10, 64)
		found := fmt.Sprintf("%d of %s in use", used, strings.TrimSpace(text))
		if !all {
			found = "at least " + found
		}
		raised = "fs.inotify." + sysctl + "=" + raised
		c.either(err == nil && limit >= used+need, Warning, name, found, purpose, "sysctl -w "+raised+"; a file of /etc/sysctl.d with "+raised+" keeps it")
	}
	row("inotify instances", "max_user_instances", instances, need+spareInotify,
		fmt.Sprintf("cleat takes %d, every kubectl logs -f another", c.n.Inotify), "8192")
	row("inotify watches", "max_user_watches", watches, spareWatches, "cgroups of pods, mounted config maps and secrets", "524288")
}

// inotifyInUse counts what this user's processes hold, as far as /proc shows them.
// One that several processes inherited counts for each; all is false if there were
// too many files to look at.
func (c *checker) inotifyInUse() (instances, watches uint64, all bool) {
	own := realUser(c.read("/proc/self/status"))
	names, err := c.m.ReadDir("/proc")
	if err != nil {
		return 0, 0, false
	}
	looked := 0
	for _, name := range names {
		if _, err := strconv.Atoi(name); err != nil || realUser(c.read("/proc/"+name+"/status")) != own {
			continue
		}
		files, err := c.m.ReadDir("/proc/" + name + "/fd")
		if err != nil {
			continue // it has ended
		}
		for _, file := range files {
			if looked++; looked > maxLooked {
				return instances, watches, false
			}
			if link, err := c.m.Readlink("/proc/" + name + "/fd/" + file); err == nil && link == "anon_inode:inotify" {
				instances++
				watches += uint64(strings.Count(c.read("/proc/"+name+"/fdinfo/"+file), "inotify wd:"))
			}
		}
	}
	return instances, watches, true
}

// read is the content of a small file, "" if there is none.
func (c *checker) read(path string) string {
	text, err := c.m.ReadFile(path)
	if err != nil {
		return ""
	}
	return text
}

// realUser is the number that /proc/<pid>/status has first for a process's user.
func realUser(status string) string {
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "Uid:" {
			return f[1]
		}
	}
	return ""
}
