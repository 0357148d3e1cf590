//go:build e2e

package lab

import (
	"bufio"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	Main()
	os.Exit(m.Run())
}

// traces lists everything of a lab that this machine can see.
func traces(t *testing.T, lab string) []string {
	t.Helper()
	var found []string
	hs, err := hierarchies()
	if err != nil {
		t.Fatal(err)
	}
	patterns := []string{filepath.Join(os.TempDir(), lab)}
	for _, h := range hs {
		patterns = append(patterns, filepath.Join(h.base, lab+"*"))
	}
	for _, p := range patterns {
		files, err := filepath.Glob(p)
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, files...)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range lines(string(mounts)) {
		if strings.Contains(line, lab) {
			found = append(found, "mount: "+line)
		}
	}
	comms, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range comms {
		if cmdline, err := os.ReadFile(f); err == nil && strings.Contains(string(cmdline), lab) {
			found = append(found, "process: "+f)
		}
	}
	return found
}

func wantNoTraces(t *testing.T, lab string) {
	t.Helper()
	Eventually(t, time.Minute, "no traces of "+lab, func() error {
		if found := traces(t, lab); len(found) > 0 {
			return &tracesError{found}
		}
		return nil
	})
}

type tracesError struct{ found []string }

func (e *tracesError) Error() string { return "left: " + strings.Join(e.found, "\n") }

func sysctls(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	for _, s := range append(sharedSysctls(), "net/ipv4/ip_forward", "kernel/hostname") {
		v, err := os.ReadFile(filepath.Join("/proc/sys", s))
		if err != nil {
			t.Fatal(err)
		}
		b.WriteString(s + "=" + string(v))
	}
	return b.String()
}

func TestMachines(t *testing.T) {
	before := sysctls(t)
	l := New(t)
	name := filepath.Base(l.Dir())
	l.Install("/bin/echo", "say", "tell")
	n1, n2 := l.Machine("n1"), l.Machine("n2")

	for _, tc := range []struct{ name, script, want string }{
		{"host name", `hostname; cat /etc/hostname`, "n1\nn1"},
		{"first process", `tr '\0' '\n' </proc/1/cmdline | head -1`, initName},
		{"few processes", `ls -d /proc/[0-9]* | wc -l | xargs test 8 -gt && echo few`, "few"},
		{"links", `ls /sys/class/net | tr '\n' ' '`, "eth0 lo"},
		{"address", `ip -4 -o addr show dev eth0 | awk '{print $4}'`, "10.99.0.1/24"},
		{"route", `ip route show default`, "default via 10.99.0.254 dev eth0"},
		{"resolver", `cat /etc/resolv.conf`, "nameserver 10.99.0.254"},
		{"empty /run", `ls /run`, ""},
		{"root of the cgroups", `grep -v ^0: /proc/self/cgroup | cut -d: -f3 | sort -u`, "/"},
		{"leaf of cgroup v2", `grep ^0: /proc/self/cgroup`, "0::/init"},
		{"own cgroups", `for d in /sys/fs/cgroup/*/; do mkdir $d/probe && rmdir $d/probe || echo $d; done`, ""},
		{"shared mounts", `awk '$5=="/" {print $7}' /proc/self/mountinfo | cut -d: -f1`, "shared"},
		{"kernel settings", `for f in vm/overcommit_memory kernel/panic; do echo 7 >/proc/sys/$f; cat /proc/sys/$f; done`, "7\n7"},
		{"forwarding", `echo 1 >/proc/sys/net/ipv4/ip_forward; cat /proc/sys/net/ipv4/ip_forward`, "1"},
		{"writing to the root", `echo x >/etc/cleat-lab-probe; echo x >/usr/local/bin/cleat-lab-probe; cat /etc/cleat-lab-probe`, "x"},
		{"installed program", `say hello; tell me`, "hello\nme"},
		{"disk", `echo kept >/var/lib/cleat/probe; cat /var/lib/cleat/probe`, "kept"},
		{"overlay on disk", `cd /var/lib/cleat && mkdir l u w m && mount -t overlay o -olowerdir=l,upperdir=u,workdir=w m && echo y >m/f && cat u/f && umount m`, "y"},
		{"the other machine", `ip -4 -o route get 10.99.0.2 | awk '{print $3}'`, "eth0"},
		{"status of a command", `exit 3`, "exit status 3"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			out, err := n1.Run("sh", "-c", tc.script)
			got := strings.TrimSpace(out)
			if err != nil {
				got = err.Error()
			}
			if got != tc.want && (err == nil || !strings.Contains(got, tc.want)) {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
	t.Run("machines reach each other, and nobody else", func(t *testing.T) {
		const hello = `use IO::Socket::INET; $s = IO::Socket::INET->new(LocalPort => 8000, Listen => 5);
			while ($c = $s->accept) { print $c "hello from n2\n"; close $c }`
		server := n2.Start(t, "hello", "perl", "-e", hello)
		fetch := []string{"timeout", "2", "bash", "-c", "cat </dev/tcp/10.99.0.2/8000"}
		Eventually(t, time.Minute, "n1 reads from n2", func() error {
			out, err := n1.Run(fetch...)
			if err == nil && out != "hello from n2\n" {
				err = errors.New(out)
			}
			return err
		})
		// Somebody else may have that address on the host's network, but not n2.
		out, err := exec.Command(fetch[0], fetch[1:]...).Output()
		if err == nil && string(out) == "hello from n2\n" {
			t.Error("the host reaches a machine")
		}
		server.Signal(t, "TERM")
		if err := server.Wait(t, time.Minute); err == nil {
			t.Error("a process killed by a signal ended well")
		}
	})
	t.Run("a process hears a signal from its first moment on", func(t *testing.T) {
		for range 10 {
			p := n1.Start(t, "brief", "sleep", "1000")
			p.Signal(t, "KILL")
			if err := p.Wait(t, time.Minute); err == nil {
				t.Error("a process that was killed ended well")
			}
		}
		if err := n1.Start(t, "missing", "no-such-program").Wait(t, time.Minute); err == nil {
			t.Error("a program that is missing ended well")
		}
	})
	t.Run("a crash keeps the disk and nothing else", func(t *testing.T) {
		p := n1.Start(t, "sleep", "sleep", "1000")
		n1.Crash()
		if err := p.Wait(t, time.Minute); err == nil {
			t.Error("a process survived the crash")
		}
		if _, err := n1.Run("true"); err == nil {
			t.Error("a machine that is off runs commands")
		}
		n1.Boot()
		if got := n1.Must(t, "cat", "/var/lib/cleat/probe"); got != "kept\n" {
			t.Errorf("disk: %q", got)
		}
		if out, err := n1.Run("cat", "/etc/cleat-lab-probe"); err == nil {
			t.Errorf("the root kept %q", out)
		}
		if got := n1.Must(t, "ip", "-4", "-o", "addr", "show", "dev", "eth0"); !strings.Contains(got, "10.99.0.1/24") {
			t.Errorf("after the second boot: %s", got)
		}
	})
	if len(traces(t, name)) == 0 {
		t.Error("a living lab leaves no traces, so this test would not see any")
	}
	if err := l.close(); err != nil {
		t.Error(err)
	}
	wantNoTraces(t, name)
	for _, f := range []string{"/etc/cleat-lab-probe", "/usr/local/bin/cleat-lab-probe"} {
		if _, err := os.Lstat(f); err == nil {
			t.Errorf("%s is on the host", f)
		}
	}
	if after := sysctls(t); after != before {
		t.Errorf("kernel settings:\nbefore %s\nafter %s", before, after)
	}
}

// A test that is killed takes its machines with it, and the next New what is left.
func TestKilled(t *testing.T) {
	const asChild = "CLEAT_LAB_CHILD"
	if os.Getenv(asChild) != "" {
		l := New(t)
		l.Machine("n1").Start(t, "sleep", "sleep", "1000")
		os.Stdout.WriteString("up " + filepath.Base(l.Dir()) + "\n")
		<-t.Context().Done() // never: the parent kills this process first
		return
	}
	child := exec.Command("/proc/self/exe", "-test.run=^TestKilled$")
	child.Env = append(os.Environ(), asChild+"=1")
	out, err := child.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	var name string
	for s := bufio.NewScanner(out); name == "" && s.Scan(); {
		name, _ = strings.CutPrefix(s.Text(), "up ")
	}
	living := 0
	if name != "" {
		living = len(traces(t, name))
	}
	if err := child.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	child.Wait() // its status is that of a killed process
	if living == 0 {
		t.Fatal("the child made no machine")
	}
	New(t) // sweeps
	wantNoTraces(t, name)
}

func TestParseHierarchies(t *testing.T) {
	for _, tc := range []struct {
		name, own, mounts string
		want              []hierarchy
	}{
		{
			name: "version 2",
			own:  "0::/user.slice/session-1.scope\n",
			mounts: "24 1 0:22 / /sys rw - sysfs sysfs rw\n" +
				"30 24 0:26 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n",
			want: []hierarchy{{base: "/sys/fs/cgroup"}},
		},
		{
			name: "version 1, joint controllers, one confined, one not mounted",
			own:  "5:pids:/\n4:cpu,cpuacct:/\n3:memory:/jail/7\n1:name=systemd:/\n0::/\n",
			mounts: "31 24 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n" +
				"32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n" +
				"33 24 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,xattr,name=systemd\n" +
				"34 24 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n",
			want: []hierarchy{
				{Options: "cpu,cpuacct", Name: "cpu,cpuacct", base: "/sys/fs/cgroup/cpu,cpuacct"},
				{Options: "memory", Name: "memory", base: "/sys/fs/cgroup/memory/jail/7"},
				{Options: "name=systemd", Name: "systemd", base: "/sys/fs/cgroup/systemd"},
				{Name: "unified", base: "/sys/fs/cgroup/unified"},
			},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := parseHierarchies(tc.own, tc.mounts)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != len(tc.want) {
				t.Fatalf("got %+v, want %+v", got, tc.want)
			}
			for i := range got {
				if got[i] != tc.want[i] {
					t.Errorf("got %+v, want %+v", got[i], tc.want[i])
				}
			}
		})
	}
}
