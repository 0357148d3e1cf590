package hostcheck

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// busyHost is a good one with the kernel's own limit, of which others have taken 80.
func busyHost() *facts {
	f := goodHost()
	f.files["/proc/sys/fs/inotify/max_user_instances"] = "128\n"
	f.links = map[string]string{"/proc/1/fd/0": "/dev/null", "/proc/1/fd/x": "anon_inode:[eventpoll]"}
	for i := range 80 {
		f.links[fmt.Sprint("/proc/1/fd/", 100+i)] = "anon_inode:inotify"
		f.links[fmt.Sprint("/proc/2/fd/", 100+i)] = "anon_inode:inotify" // another user's
		f.links[fmt.Sprint("/proc/self/fd/", 100+i)] = "anon_inode:inotify"
	}
	f.files["/proc/1/fdinfo/100"] = "pos:\t0\nflags:\t02004000\ninotify wd:2 ino:5 sdev:800001 mask:3c6 ignored_mask:0\ninotify wd:1 ino:4 sdev:800001 mask:3c6 ignored_mask:0\n"
	return f
}

func find(t *testing.T, rows []Row, name string) Row {
	t.Helper()
	for _, r := range rows {
		if r.Name == name {
			return r
		}
	}
	t.Fatalf("no row %q in %+v", name, rows)
	return Row{}
}

// TestInotifyIsCounted: what a server takes, what an agent takes and what runs
// already differ in what is too little.
func TestInotifyIsCounted(t *testing.T) {
	for _, c := range []struct {
		takes   int
		running bool
		limit   string
		want    Result
	}{
		{25, false, "128", Warning}, // 80 + 25 + 32
		{25, false, "137", OK},
		{10, false, "128", OK},
		{16, false, "128", OK},
		{17, false, "128", Warning},
		{25, true, "128", OK}, // among the 80
		{25, true, "111", Warning},
		{25, false, "none", Warning},
	} {
		f, n := busyHost(), needs()
		f.files["/proc/sys/fs/inotify/max_user_instances"], f.answers, n.Inotify = c.limit+"\n", c.running, c.takes
		rows := Check(t.Context(), f.machine(), n)
		if r := find(t, rows, "inotify instances"); r.Result != c.want || r.Found != "80 of "+c.limit+" in use" || !strings.Contains(r.For, fmt.Sprintf("takes %d,", c.takes)) {
			t.Errorf("%+v: %+v", c, r)
		}
		if r := find(t, rows, "inotify watches"); r.Found != "2 of 524288 in use" {
			t.Errorf("watches: %+v", r)
		}
	}
}

func TestInotifyCountIsBounded(t *testing.T) {
	f := goodHost()
	m := f.machine()
	looked := 0
	m.ReadDir = func(path string) ([]string, error) {
		if path == "/proc" {
			return []string{"1"}, nil
		}
		return make([]string, 10*maxLooked), nil
	}
	m.Readlink = func(string) (string, error) { looked++; return "anon_inode:inotify", nil }
	r := find(t, Check(t.Context(), m, needs()), "inotify instances")
	if looked != maxLooked || !strings.HasPrefix(r.Found, "at least 100000 of ") || r.Result != Warning {
		t.Errorf("looked at %d files: %+v", looked, r)
	}
}

// TestInotifyOfThisProcess counts real ones.
func TestInotifyOfThisProcess(t *testing.T) {
	count := func() (uint64, uint64) {
		c := &checker{m: This()}
		pid := fmt.Sprint(os.Getpid())
		c.m.ReadDir = func(path string) ([]string, error) {
			if path == "/proc" {
				return []string{pid}, nil // others come and go
			}
			return This().ReadDir(path)
		}
		instances, watches, all := c.inotifyInUse()
		if !all {
			t.Error("not all were counted")
		}
		return instances, watches
	}
	instances, watches := count()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, t.TempDir(), unix.IN_CREATE); err != nil {
		t.Fatal(err)
	}
	if i, w := count(); i != instances+1 || w != watches+1 {
		t.Errorf("%d instances and %d watches became %d and %d", instances, watches, i, w)
	}
}

// TestAgentRows: an agent's server and token are rows, which a server has not.
func TestAgentRows(t *testing.T) {
	for name, c := range map[string]struct {
		joins Joins
		err   error
		want  map[string]Result
		says  string
	}{
		"all given":   {Joins{"n1:6443", true}, nil, map[string]Result{"server": OK, "token": OK}, "n1:6443 answers"},
		"not there":   {Joins{"n1:6443", true}, unix.ECONNREFUSED, map[string]Result{"server": Warning, "token": OK}, "connection refused"},
		"none at all": {Joins{}, nil, map[string]Result{"server": Missing, "token": Missing}, "--token-file"},
	} {
		f, n := goodHost(), needs()
		f.dialErr, n.Joins = c.err, &c.joins
		got, said := map[string]Result{}, ""
		for _, r := range Check(t.Context(), f.machine(), n) {
			if r.Name == "server" || r.Name == "token" {
				got[r.Name] = r.Result
				said += r.Found + r.Do
			}
		}
		if !maps.Equal(got, c.want) || !strings.Contains(said, c.says) {
			t.Errorf("%s: %v, said %q", name, got, said)
		}
	}
	for _, r := range Check(t.Context(), goodHost().machine(), needs()) {
		if r.Name == "server" || r.Name == "token" {
			t.Errorf("a server has %+v", r)
		}
	}
}
