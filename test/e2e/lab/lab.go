package lab

import (
	"encoding/hex"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// prefix begins the name of everything a lab leaves in a shared place.
const prefix = "cleat-lab-"

// settle is how long the kernel may take to let go of what the dead used.
const settle = time.Minute

// Lab is a switch and the machines on it.
type Lab struct {
	t        testing.TB
	dir      string   // state of the machines; its base name is the lab's name
	lock     *os.File // held as long as the lab lives, so that others do not sweep it
	cgroups  []hierarchy
	switchNS *process1
	machines []*Machine
	programs map[string]string // path in the machines -> copy in dir
	links    map[string]string // path in the machines -> target
}

// New makes an empty lab that lives until the test ends. It needs root, and the
// commands ip, nsenter and sh; it fails the test without them.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("machines need root: run the tests as root, or without the e2e tag")
	}
	for _, tool := range []string{"ip", "nsenter", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: apt-get install iproute2 util-linux", err)
		}
	}
	cgroups, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{t: t, cgroups: cgroups, programs: map[string]string{}, links: map[string]string{}}
	t.Cleanup(func() {
		if err := l.close(); err != nil {
			t.Errorf("cleaning up the lab: %v", err)
		}
	})
	if err := l.makeDir(); err != nil {
		t.Fatal(err)
	}
	if l.switchNS, err = startInit(initConfig{}); err != nil {
		t.Fatalf("starting the switch: %v", err)
	}
	if err := l.switchNS.ip("link set lo up\nlink add br0 type bridge\naddr add 10.99.0.254/24 dev br0\naddr add fd99::fe/64 dev br0 nodad\nlink set br0 up\n"); err != nil {
		t.Fatal(err)
	}
	return l
}

// makeDir sweeps up after earlier tests and makes the lab's directory.
func (l *Lab) makeDir() error {
	tmp, err := lockDir(os.TempDir(), 0) // a new directory must not be swept before it is locked
	if err != nil {
		return err
	}
	defer tmp.Close()
	if err := sweep(os.TempDir(), l.cgroups); err != nil {
		return fmt.Errorf("sweeping up after an earlier test: %w", err)
	}
	if l.dir, err = os.MkdirTemp("", prefix); err != nil {
		return err
	}
	l.lock, err = lockDir(l.dir, 0)
	return err
}

// Dir is a directory on the host for files of the test, removed with the lab.
func (l *Lab) Dir() string { return l.dir }

// Install puts a copy of a program of the host into /usr/local/bin of every machine
// that boots from now on, and makes aliases links to it. A copy, so that a
// build meanwhile changes nothing.
func (l *Lab) Install(program, name string, aliases ...string) {
	l.t.Helper()
	dst := filepath.Join(l.dir, "programs", name)
	if err := copyFile(program, dst, 0o755); err != nil {
		l.t.Fatal(err)
	}
	inside := "/usr/local/bin/" + name
	l.programs[inside] = dst
	for _, a := range aliases {
		l.links["/usr/local/bin/"+a] = inside
	}
}

// Gateway is the address of the switch: every machine's default route, where
// nobody answers.
func (l *Lab) Gateway() netip.Addr { return netip.AddrFrom4([4]byte{10, 99, 0, 254}) }

// close ends the machines and removes every trace. It can be called twice.
func (l *Lab) close() error {
	var errs []error
	for _, m := range l.machines {
		errs = append(errs, m.halt())
	}
	l.machines = nil
	if l.switchNS != nil {
		errs = append(errs, l.switchNS.end())
		l.switchNS = nil
	}
	if l.dir != "" {
		errs = append(errs, remove(l.dir, l.cgroups))
		l.dir = ""
	}
	if l.lock != nil {
		errs = append(errs, l.lock.Close())
		l.lock = nil
	}
	return errors.Join(errs...)
}

// sweep removes what killed tests left in tmp.
func sweep(tmp string, cgroups []hierarchy) error {
	dirs, err := filepath.Glob(filepath.Join(tmp, prefix+"*"))
	if err != nil {
		return err
	}
	var errs []error
	for _, dir := range dirs {
		lock, err := lockDir(dir, syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			continue // its test is running
		}
		if err == nil {
			err = errors.Join(remove(dir, cgroups), lock.Close())
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// lockDir takes the lock that a living lab holds on its directory. With LOCK_NB the
// error is EWOULDBLOCK while another process holds it.
func lockDir(dir string, how int) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|how); err != nil {
		f.Close() // only read
		return nil, fmt.Errorf("lock %s: %w", dir, err)
	}
	return f, nil
}

// remove removes a lab's cgroups and directory. Its machines are dead, but the
// kernel may need a moment to let go of both.
func remove(dir string, cgroups []hierarchy) error {
	attempt := func() error {
		var errs []error
		for _, h := range cgroups {
			own, err := filepath.Glob(filepath.Join(h.base, filepath.Base(dir)+"-*"))
			errs = append(errs, err)
			for _, d := range own {
				errs = append(errs, removeCgroup(d))
			}
		}
		return errors.Join(append(errs, os.RemoveAll(dir))...)
	}
	return retry(settle, attempt)
}

// retry calls f until it succeeds or time is up, and returns the last error.
func retry(patience time.Duration, f func() error) error {
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return nil
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return fmt.Errorf("after %s: %w", patience, err)
		}
	}
}

// Eventually calls f until it returns nil, and fails the test with f's last error
// when that has not happened after patience.
func Eventually(t testing.TB, patience time.Duration, what string, f func() error) {
	t.Helper()
	begun := time.Now()
	if err := retry(patience, f); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	if took := time.Since(begun); took > time.Second {
		t.Logf("%s: %.1f s", what, took.Seconds())
	}
}

// portName makes a link name of at most 15 bytes for a machine's end on the switch.
func portName(machine string) string {
	h := fnv.New32a()
	h.Write([]byte(machine)) // never fails
	return "p-" + hex.EncodeToString(h.Sum(nil))
}

// lines splits text and drops empty lines.
func lines(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == '\n' })
}
