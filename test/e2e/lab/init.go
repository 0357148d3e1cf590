package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
)

const (
	joinName = "cleat-lab-join" // argv[0] of the first stage: enter the cgroups
	initName = "cleat-lab-init" // argv[0] of the second: make the machine, then reap
	statusFD = 3                // where either writes its error, or nothing
)

// initConfig is what the first process of a namespace set is to do.
type initConfig struct {
	Hostname string            // "" makes a bare network namespace, without a root of its own
	Dir      string            // the machine's directory on the host
	Cgroups  cgroups           // to enter
	Mounts   []hierarchy       // mounted again inside
	Binds    map[string]string // path in the machine -> file or directory on the host
	Links    map[string]string // path in the machine -> target
	Files    map[string]string // path in the machine -> content
}

// Main must be the first call of TestMain. In the test itself it does nothing; in
// the process that becomes a machine's init it never returns.
func Main() {
	switch os.Args[0] {
	case joinName, initName:
	default:
		return
	}
	status := os.NewFile(statusFD, "status")
	var cfg initConfig
	err := json.Unmarshal([]byte(os.Args[1]), &cfg)
	if err == nil && os.Args[0] == joinName {
		err = join(cfg) // does not return on success
	} else if err == nil {
		err = cfg.mount()
	}
	if err != nil {
		fmt.Fprintln(status, err)
		os.Exit(1)
	}
	status.Close() // nothing can be done about an error, and the test sees the end of file anyway
	go func() {
		io.Copy(io.Discard, os.Stdin) // ends with the test, however that ends
		os.Exit(0)
	}()
	reap()
}

// join enters the cgroups, makes them the root of a cgroup namespace and goes on
// as the second stage. A namespace is a property of a thread, and exec keeps that
// of the calling one.
func join(cfg initConfig) error {
	runtime.LockOSThread()
	if err := cfg.Cgroups.enter(func() error { return syscall.Unshare(syscall.CLONE_NEWCGROUP) }); err != nil {
		return err
	}
	return syscall.Exec("/proc/self/exe", []string{initName, os.Args[1]}, os.Environ())
}

// reap is the duty of a first process: it waits for every orphan.
func reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	for {
		_, err := syscall.Wait4(-1, nil, 0, nil)
		if errors.Is(err, syscall.ECHILD) {
			<-children
		}
	}
}

// process1 is the first process of a namespace set, seen from the test.
type process1 struct {
	cmd   *exec.Cmd
	alive io.Closer // closing it ends the process, and so all others of the set
}

// startInit starts a first process in namespaces of its own and returns when they
// are set up.
func startInit(cfg initConfig) (*process1, error) {
	arg, err := json.Marshal(cfg)
	if err != nil {
		return nil, err
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	var stderr bytes.Buffer
	cmd := &exec.Cmd{
		Path:       "/proc/self/exe",
		Args:       []string{initName, string(arg)},
		Env:        []string{"GOMAXPROCS=1"},
		ExtraFiles: []*os.File{w},
		Stderr:     &stderr,
		SysProcAttr: &syscall.SysProcAttr{
			Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWNET | syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC,
			Setsid:     true, // a Ctrl-C in a terminal is for the test alone
		},
	}
	if len(cfg.Cgroups.Roots) > 0 {
		cmd.Args[0] = joinName
	}
	alive, err := cmd.StdinPipe()
	if err == nil {
		err = cmd.Start()
	}
	w.Close() // the child has its own
	if err != nil {
		return nil, err
	}
	p := &process1{cmd: cmd, alive: alive}
	if told, err := io.ReadAll(r); err != nil || len(told) > 0 {
		return nil, errors.Join(errors.New(strings.TrimSpace(string(told))), err, p.end())
	}
	return p, nil
}

func (p *process1) pid() int { return p.cmd.Process.Pid }

// end ends every process of the set and waits for the first, which the kernel
// lets go last.
func (p *process1) end() error {
	p.alive.Close() // an error means that it was closed
	err := p.cmd.Wait()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil // it told why, or was killed
	}
	return err
}

// kill ends every process of the set as a power cut would.
func (p *process1) kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return err
	}
	return p.end()
}

// ip runs a batch of ip commands in the network namespace of p.
func (p *process1) ip(batch string) error {
	cmd := exec.Command("nsenter", "-t", fmt.Sprint(p.pid()), "-n", "ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(batch)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip -batch: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}
