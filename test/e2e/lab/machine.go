package lab

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Disk lists the directories of a machine that are on a real file system and
// outlive a Crash.
func Disk() []string {
	return []string{"/etc/cleat", "/etc/cni", "/opt/cni", "/var/lib/cleat", "/var/lib/cni", "/var/lib/kubelet", "/var/log"}
}

// Machine is one machine of a lab.
type Machine struct {
	lab   *Lab
	Name  string
	Addr  netip.Addr // of eth0, in 10.99.0.0/24
	Addr6 netip.Addr // of eth0, in fd99::/64, with the same last part
	dir   string
	init  *process1 // nil while the machine is off
	procs []string  // the cgroup.procs files of its processes, on the host

	mu   sync.Mutex
	live []*Process // every command that Start started
}

// Machine boots a new machine; the name becomes its host name. The first machine
// gets 10.99.0.1, the next 10.99.0.2 and so on.
func (l *Lab) Machine(name string) *Machine {
	l.t.Helper()
	m := &Machine{
		lab:   l,
		Name:  name,
		Addr:  netip.AddrFrom4([4]byte{10, 99, 0, byte(len(l.machines) + 1)}),
		Addr6: netip.AddrFrom16([16]byte{0: 0xfd, 1: 0x99, 15: byte(len(l.machines) + 1)}),
		dir:   filepath.Join(l.dir, name),
	}
	for _, d := range Disk() {
		if err := os.MkdirAll(m.Path(d), 0o755); err != nil {
			l.t.Fatal(err)
		}
	}
	l.machines = append(l.machines, m)
	if err := m.boot(); err != nil {
		l.t.Fatalf("booting machine %s: %v", name, err)
	}
	return m
}

// Path is where a path below one of Disk is on the host.
func (m *Machine) Path(inside string) string { return filepath.Join(m.dir, "disk", inside) }

// Crash ends the machine as a power cut would: no process gets a signal, what was
// not on Disk is gone.
func (m *Machine) Crash() {
	m.lab.t.Helper()
	err := m.init.kill()
	m.init = nil
	for _, h := range m.lab.cgroups {
		err = errors.Join(err, retry(settle, func() error { return removeCgroup(filepath.Join(h.base, m.cgroup())) }))
	}
	if err != nil {
		m.lab.t.Fatal(err)
	}
}

// cgroup is the name of the machine's cgroups on the host.
func (m *Machine) cgroup() string { return filepath.Base(m.lab.dir) + "-" + m.Name }

// Boot starts the machine again after a Crash.
func (m *Machine) Boot() {
	m.lab.t.Helper()
	if err := m.boot(); err != nil {
		m.lab.t.Fatalf("booting machine %s again: %v", m.Name, err)
	}
}

func (m *Machine) boot() error {
	own, err := makeCgroups(m.lab.cgroups, m.cgroup())
	if err != nil {
		return err
	}
	m.procs = own.procs()
	cfg := initConfig{
		Hostname: m.Name,
		Dir:      m.dir,
		Cgroups:  own,
		Mounts:   m.lab.cgroups,
		Links:    m.lab.links,
		Binds:    maps.Clone(m.lab.programs),
		Files: map[string]string{
			"/etc/hostname":    m.Name + "\n",
			"/etc/hosts":       fmt.Sprintf("127.0.0.1 localhost\n%s %s\n", m.Addr, m.Name),
			"/etc/resolv.conf": fmt.Sprintf("nameserver %s\n", m.lab.Gateway()),
		},
	}
	for _, d := range Disk() {
		cfg.Binds[d] = m.Path(d)
	}
	if m.init, err = startInit(cfg); err != nil {
		return err
	}
	port := portName(m.Name)
	// The port of an earlier boot goes when its namespace does, which may be later.
	if err := m.lab.switchNS.ip("link show dev " + port); err == nil {
		if err := m.lab.switchNS.ip("link del " + port); err != nil && !strings.Contains(err.Error(), "Cannot find device") {
			return err
		}
	}
	if err := m.lab.switchNS.ip(fmt.Sprintf("link add %[1]s type veth peer name eth0 netns %[2]d\nlink set %[1]s master br0 up\n", port, m.init.pid())); err != nil {
		return err
	}
	return m.init.ip(fmt.Sprintf("link set lo up\naddr add %s/24 dev eth0\naddr add %s/64 dev eth0 nodad\nlink set eth0 up\n"+
		"route add default via %s\nroute add default via fd99::fe\n", m.Addr, m.Addr6, m.lab.Gateway()))
}

// halt ends the machine and waits for the commands that ran in it.
func (m *Machine) halt() error {
	if m.init == nil {
		return nil
	}
	err := m.init.end()
	m.init = nil
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, p := range m.live {
		<-p.done
	}
	return err
}
