package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Patience is how long Run and Feed let a command run.
const Patience = 90 * time.Second

// enterCgroups joins the cgroups whose files are the arguments up to "--" and
// becomes the command after it. nsenter changes only what a process sees of the
// cgroups, not which it is in.
const enterCgroups = `while [ "$1" != -- ]; do echo $$ >"$1" || exit 125; shift; done; shift; exec "$@"`

// command returns a command that will run in the machine, in a process group of its own.
func (m *Machine) command(ctx context.Context, args []string) *exec.Cmd {
	argv := append([]string{"-c", enterCgroups, "enter"}, m.procs...)
	argv = append(argv, "--", "nsenter", "-t", fmt.Sprint(m.init.pid()), "-m", "-n", "-p", "-u", "-i", "-C", "--")
	cmd := exec.CommandContext(ctx, "sh", append(argv, args...)...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// nsenter forks to enter the process namespace, so its child has to go too.
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = 30 * time.Second
	return cmd
}

// Run runs a command in the machine and returns its standard output. The error
// holds what it wrote to standard error.
func (m *Machine) Run(args ...string) (string, error) { return m.Feed("", args...) }

// Feed is Run with a standard input.
func (m *Machine) Feed(stdin string, args ...string) (string, error) {
	if m.init == nil {
		return "", fmt.Errorf("machine %s is off", m.Name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
	defer cancel()
	cmd := m.command(ctx, args)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		err = fmt.Errorf("no end after %s", Patience)
	}
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s%s", m.Name, strings.Join(args, " "), err, tail(stdout.String(), 10), tail(stderr.String(), 20))
	}
	return stdout.String(), err
}

// Must is Run that fails the test on an error.
func (m *Machine) Must(t testing.TB, args ...string) string {
	t.Helper()
	out, err := m.Run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// Process is a command that runs in the background of a machine.
type Process struct {
	machine *Machine
	name    string
	log     string // path on the host
	done    chan struct{}

	mu  sync.Mutex
	err error
}

// Start starts a command in the machine. Its output goes to LogFile, of which the
// end is shown when the test fails. name is a short word for it, unique among
// those that run.
func (m *Machine) Start(t testing.TB, name string, args ...string) *Process {
	t.Helper()
	p := &Process{machine: m, name: name, log: filepath.Join(m.dir, name+".log"), done: make(chan struct{})}
	out, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	numbered, number, err := os.Pipe()
	if err != nil {
		t.Fatal(errors.Join(err, out.Close()))
	}
	defer numbered.Close()
	// The number that a Signal needs is the one inside the machine. It is there when
	// Start returns, in place of that of a process before it of the same name.
	script := `echo $$ >"/run/lab-` + name + `.pid" && echo >&3 && exec "$@" 3>&-`
	cmd := m.command(context.Background(), append([]string{"sh", "-c", script, name}, args...))
	cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = out, out, []*os.File{number}
	err = cmd.Start()
	number.Close() // the process has it
	if err != nil {
		t.Fatal(errors.Join(err, out.Close()))
	}
	m.mu.Lock()
	m.live = append(m.live, p)
	m.mu.Unlock()
	go func() {
		defer close(p.done)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.err = errors.Join(err, out.Close())
	}()
	err = numbered.SetReadDeadline(time.Now().Add(Patience))
	if err == nil {
		_, err = numbered.Read(make([]byte, 1))
	}
	if err != nil && !errors.Is(err, io.EOF) { // the end is that of a process that could not begin
		t.Fatalf("start %s on %s: %v", name, m.Name, err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the end of %s on %s:\n%s", name, m.Name, tail(p.Log(), 120))
		}
	})
	return p
}

// LogFile is the path, on the host, of what the process wrote.
func (p *Process) LogFile() string { return p.log }

// Log returns what the process wrote so far, and those before it of the same name.
func (p *Process) Log() string {
	b, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// Signal sends a signal to the process, by the name kill(1) knows.
func (p *Process) Signal(t testing.TB, signal string) {
	t.Helper()
	p.machine.Must(t, "sh", "-c", `kill -"$1" "$(cat "/run/lab-$2.pid")"`, "signal", signal, p.name)
}

// Wait waits for the process to end and returns how it did: nil for status 0. It
// fails the test after patience.
func (p *Process) Wait(t testing.TB, patience time.Duration) error {
	t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	select {
	case <-p.done:
	case <-timeout.C:
		t.Fatalf("%s on %s has not ended after %s", p.name, p.machine.Name, patience)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Ended tells whether the process has ended, and how.
func (p *Process) Ended() (bool, error) {
	select {
	case <-p.done:
		p.mu.Lock()
		defer p.mu.Unlock()
		return true, p.err
	default:
		return false, nil
	}
}

// WriteFile writes a file below one of Disk, for root alone, from outside.
func (m *Machine) WriteFile(t testing.TB, inside, content string) {
	t.Helper()
	path := m.Path(inside)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// CopyFile copies a file of the host to one below one of Disk.
func (m *Machine) CopyFile(t testing.TB, from, inside string, mode os.FileMode) {
	t.Helper()
	if err := copyFile(from, m.Path(inside), mode); err != nil {
		t.Fatal(err)
	}
}

func copyFile(from, to string, mode os.FileMode) error {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return err
	}
	dst, err := os.OpenFile(to, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = io.Copy(dst, src)
	return errors.Join(err, dst.Close())
}

// tail returns the last n lines of text.
func tail(text string, n int) string {
	all := strings.SplitAfter(text, "\n")
	return strings.Join(all[max(0, len(all)-n):], "")
}
