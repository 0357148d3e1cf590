package cleanup

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestDeepest(t *testing.T) {
	for want, groups := range map[string]map[string]string{
		"/system.slice/cleat.service": {"": "/system.slice/cleat.service"},
		"/system.slice/x.service":     {"memory": "/m", "name=systemd": "/system.slice/x.service", "": "/"},
		"/m":                          {"memory": "/m", "name=systemd": "/"},
		"/":                           nil,
	} {
		if got := deepest(groups); got != want {
			t.Errorf("%v: %q, want %q", groups, got, want)
		}
	}
}

func TestTell(t *testing.T) {
	var out strings.Builder
	j := &job{Options: Options{Out: &out}}
	j.each("links", "remove", "removed", []string{"a\x1b[2Jb\n", strings.Repeat("long", 20)}, func(string) error { return nil })
	j.each("links", "remove", "removed", []string{"a", "b"}, func(thing string) error {
		if thing == "a" {
			return errors.New("busy")
		}
		return nil
	})
	j.each("links", "remove", "removed", []string{"a\x1b[2Jb\n"}, func(string) error { return nil })
	want := "links                removed 2\nlinks                removed 1 of 2\nlinks                removed a [2Jb \n"
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("-want +said:\n%s", diff)
	}
	if err := j.result(); err == nil || err.Error() != "links: a: busy" {
		t.Errorf("got %v", err)
	}
}

// Whatever iptables-save prints, only chains that it printed are touched.
func FuzzChainScript(f *testing.F) {
	f.Add("*nat\n:A - [0:0]\n:FLANNEL-POSTRTG - [0:0]\n-A A -j FLANNEL-POSTRTG\n", "x")
	f.Add("*nat\n:CNI-HOSTPORT-DNAT - [0:0]\n:B - [0:0]\n-A CNI-HOSTPORT-DNAT -m comment --comment \"id: \\\"x\\\"\" -j B\n", "x")
	f.Fuzz(func(t *testing.T, saved, id string) {
		j := &job{host: &fakeHost{}, facts: facts{node: true}}
		j.facts.network.Flannel = &flannel{}
		for _, table := range parseSaved(saved) {
			script, _ := j.chainScript(table, []string{id})
			for line := range strings.Lines(script) {
				chain, ok := strings.CutPrefix(strings.TrimSpace(line), "-X ")
				if ok && !slices.Contains(table.chains, chain) {
					t.Errorf("deletes %q of %q", chain, table.chains)
				}
			}
		}
	})
}

// A real process is found, ended, and not mistaken for a later one.
func TestProcess(t *testing.T) {
	lock := filepath.Join(t.TempDir(), ".lock")
	if pid, err := (machine{}).Holder(lock); pid != 0 || err != nil {
		t.Errorf("a lock that is not there is held by %d, %v", pid, err)
	}
	held, err := os.OpenFile(lock, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	if err := unix.Flock(int(held.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sleep", "1000")
	cmd.ExtraFiles = []*os.File{held}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait() //nolint:errcheck // it is killed
	if pid, err := (machine{}).Holder(lock); pid != cmd.Process.Pid || err != nil {
		t.Errorf("the lock is held by %d, %v, want %d", pid, err, cmd.Process.Pid)
	}
	all, err := (machine{}).Processes()
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(all, func(p process) bool { return p.PID == cmd.Process.Pid })
	if i < 0 {
		t.Fatal("the process is not listed")
	}
	p := all[i]
	if p.PPID != os.Getpid() || !p.SameMount || !p.SameNet || !filepath.IsAbs(p.Exe) || !slices.Equal(p.Args, []string{"sleep", "1000"}) {
		t.Errorf("got %+v", p)
	}
	later := p
	later.Start++
	if err := (machine{}).Signal(later, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if left, err := (machine{}).Await(context.Background(), []process{later}, 0); len(left) > 0 || err != nil {
		t.Errorf("a process that is not there: %v, %v", left, err)
	}
	if left, err := (machine{}).Await(context.Background(), []process{p}, 0); len(left) != 1 || err != nil {
		t.Errorf("it was killed in another's name: %v, %v", left, err)
	}
	if err := (machine{}).Signal(p, syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if left, err := (machine{}).Await(context.Background(), []process{p}, time.Minute); len(left) > 0 || err != nil {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestCommand(t *testing.T) {
	out, err := machine{}.Command(context.Background(), "in", "cat")
	if out != "in" || err != nil {
		t.Errorf("%q, %v", out, err)
	}
	if _, err := (machine{}).Command(context.Background(), "", "cleat-no-such-program"); !errors.Is(err, errNoProgram) {
		t.Errorf("got %v", err)
	}
	if _, err := (machine{}).Command(context.Background(), "", "sh", "-c", "echo why >&2; exit 3"); err == nil {
		t.Error("no error")
	}
}
