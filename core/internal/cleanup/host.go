package cleanup

import (
	"context"
	"net/netip"
	"strconv"
	"syscall"
	"time"
)

// host is everything that is done to the machine, files aside.
type host interface {
	// Processes lists all processes but the dead and this one.
	Processes() ([]process, error)
	// Holder returns the process that holds the lock of a file, 0 if nobody does.
	Holder(lock string) (pid int, err error)
	// Signal sends a signal to that very process; that it has ended is no error.
	Signal(p process, s syscall.Signal) error
	// Await waits until the processes have ended and returns those that have not
	// after patience.
	Await(ctx context.Context, all []process, patience time.Duration) (left []process, err error)
	// Mounts lists the mount points, in the order they were mounted.
	Mounts() ([]string, error)
	// Unmount takes a mount away, later if something uses it.
	Unmount(ctx context.Context, path string) error
	Links() ([]link, error)
	// RemoveLink removes a link; that it is gone is no error.
	RemoveLink(name string) error
	// Routes lists those that go through a gateway.
	Routes() ([]route, error)
	RemoveRoute(r route) error
	// CgroupMounts lists where the hierarchies are.
	CgroupMounts() ([]string, error)
	// Members lists the processes in a cgroup and those below it, nobody if it
	// does not exist.
	Members(cgroup string) ([]int, error)
	// RemoveCgroup removes a cgroup and those below it. One that has processes
	// stays, which is an error; that it is gone is none.
	RemoveCgroup(cgroup string) error
	// FreeNodeName makes the datastore of the running server forget the password
	// of a node. That there is none is no error.
	FreeNodeName(ctx context.Context, node string) error
	// Command runs a program with this standard input and returns its output.
	// errNoProgram: it is not installed.
	Command(ctx context.Context, stdin, name string, args ...string) (string, error)
}

type process struct {
	PID, PPID int
	Start     uint64 // since boot, in ticks: tells it from a later one of this number
	Exe       string // "" if unknown
	Args      []string
	Cgroup    string // the path in /proc/<pid>/cgroup that says most
	SameMount bool   // sees our file system
	SameNet   bool   // sees our network
}

func (p process) pid() string { return strconv.Itoa(p.PID) }

type link struct {
	Name   string
	Kind   string // bridge, vxlan, veth …
	Master string // the bridge it is part of, "" if none
}

type route struct {
	Destination netip.Prefix
	Gateway     netip.Addr
}
