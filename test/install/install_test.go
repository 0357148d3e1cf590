//go:build e2e

package install

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	secret = "horse-battery-staple-41"
	inside = "/var/lib/cleat/from" // where the machine finds what it installs, as in the repository
	web    = inside + "/web"       // the same as a web server has it
)

// listing is every file that the script may change. One that is replaced by an
// equal one has another inode.
const listing = `find /usr/local /etc/systemd \( -type f -printf '%p %i %s %m %T@\n' \) -o \( -type l -printf '%p %l\n' \) | sort`

// TestInstall leads one machine through the life of an installation.
func TestInstall(t *testing.T) {
	d := newDebian(t)
	binary := artefact(t, "bin/cleat", "build")
	script := artefact(t, "install/install.sh", "build")
	d.CopyFile(t, binary, disk+inside+"/bin/cleat", 0o755)
	d.CopyFile(t, script, disk+inside+"/install/install.sh", 0o644)
	d.CopyFile(t, script, disk+web+"/install.sh", 0o644)
	if err := os.Link(d.path(inside+"/bin/cleat"), d.path(web+"/cleat-linux-amd64")); err != nil {
		t.Fatal(err)
	}
	d.CopyFile(t, artefact(t, "build/test-images.tar", "test-images"), disk+"/var/lib/cleat/agent/images/test-images.tar", 0o644)
	guide := readGuide(t)

	untouched := d.shell(t, listing)
	ok := t.Run("refusals", func(t *testing.T) { testRefusals(t, d) }) &&
		t.Run("first", func(t *testing.T) { testFirst(t, d, guide) }) &&
		t.Run("secrets", func(t *testing.T) { testSecrets(t, d) }) &&
		t.Run("again", func(t *testing.T) { testAgain(t, d, guide) }) &&
		t.Run("restart", func(t *testing.T) { testRestart(t, d) }) &&
		t.Run("upgrade", func(t *testing.T) { testUpgrade(t, d, guide) }) &&
		t.Run("kill", func(t *testing.T) { testKill(t, d) }) &&
		t.Run("stop", func(t *testing.T) { testStop(t, d) }) &&
		t.Run("wrong configuration", func(t *testing.T) { testWrongConfiguration(t, d) })
	if !ok {
		return
	}
	t.Run("removal", func(t *testing.T) {
		d.shell(t, "cleat uninstall --yes --data-dir /var/lib/cleat") // the configuration was broken by the last test
		// The directories are mounts of the lab's, and what the test installs from is not cleat's.
		left := d.shell(t, "find /etc/cleat /run/cleat /var/lib/cleat /var/lib/kubelet -mindepth 1 ! -path "+inside+" ! -path '"+inside+"/*' 2>/dev/null || true")
		if strings.TrimSpace(left) != "" {
			t.Errorf("uninstall left\n%s", left)
		}
		if after := d.shell(t, listing); after != untouched {
			t.Errorf("something of the installation is left\nbefore\n%s\nafter\n%s", untouched, after)
		}
	})
}

// guide is what a reader of docs/guides/install.md types.
type guide struct{ fromDirectory, fromWeb, look string }

func readGuide(t *testing.T) guide {
	t.Helper()
	page, err := os.ReadFile(artefact(t, "docs/guides/install.md", "build"))
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 3 {
		t.Fatalf("the guide has %d blocks marked sh, want three", len(blocks))
	}
	return guide{blocks[0][1], blocks[1][1], blocks[2][1]}
}

// testRefusals: each error names its cause, and nothing has been written then.
func testRefusals(t *testing.T, d *debian) {
	before := d.shell(t, listing)
	// Small programs stand for what is wrong with the real one.
	d.shell(t, `cd `+inside+`; (cd bin && sha256sum cleat >cleat.sha256); mkdir bad none foreign
		cp /bin/true bad/cleat; echo "$(sha256sum </bin/false | cut -c1-64)  cleat" >bad/cleat.sha256
		cp /bin/true none/cleat
		head -c18 /bin/true >foreign/cleat; printf '\363\000' >>foreign/cleat; tail -c+21 /bin/true >>foreign/cleat
		sha256sum foreign/cleat >foreign/cleat.sha256`)
	for _, c := range []struct{ name, script, want string }{
		{"help", `$sh --help; exit 1`, "INSTALL_CLEAT_SHA256"},
		{"no source", `$sh`, "set INSTALL_CLEAT_BIN to the binary"},
		{"no file", `INSTALL_CLEAT_BIN=/nowhere $sh`, "there is no file /nowhere"},
		{"bad checksum", `INSTALL_CLEAT_BIN=bad $sh`, "nothing was installed"},
		{"pinned checksum", `INSTALL_CLEAT_SHA256=$(sha256sum </bin/false | cut -c1-64) INSTALL_CLEAT_BIN=none $sh`, "nothing was installed"},
		{"no checksum", `INSTALL_CLEAT_BIN=none $sh`, "there is no checksum none/cleat.sha256"},
		{"no digest", `INSTALL_CLEAT_BIN=none INSTALL_CLEAT_SHA256=abc $sh`, "no SHA-256 digest"},
		{"http", `INSTALL_CLEAT_URL=http://127.0.0.1 $sh`, "use https, or set INSTALL_CLEAT_SHA256"},
		{"nobody there", `INSTALL_CLEAT_URL=https://127.0.0.1:1 $sh`, "cannot download https://127.0.0.1:1/cleat-linux-amd64"},
		{"foreign", `INSTALL_CLEAT_BIN=foreign $sh`, "no program for this machine, which is amd64"},
		{"not root", `setpriv --reuid 65534 --clear-groups $sh`, "must run as root"},
		{"no systemd", `unshare -m sh -c "mount -t tmpfs tmpfs /run && $sh"`, "systemd does not run here"},
		{"read-only", `unshare -m sh -c "mount -o remount,bind,ro /usr/local/bin && INSTALL_CLEAT_BIN=bin $sh"`, "cannot write to /usr/local/bin"},
		{"noexec", `unshare -m sh -c "mount -o remount,bind,noexec /usr/local/bin && INSTALL_CLEAT_BIN=bin $sh"`, "/usr/local/bin is mounted noexec"},
		{"no units", `unshare -m sh -c "mount --bind /etc/systemd/system /etc/systemd/system && mount -o remount,bind,ro /etc/systemd/system && INSTALL_CLEAT_BIN=bin $sh"`, "cannot write to /etc/systemd/system"},
		{"no such role", `INSTALL_CLEAT_BIN=bin $sh nosuch`, "runs no nosuch"},
		{"line break", `INSTALL_CLEAT_BIN=bin CLEAT_NODE_NAME="$(printf 'a\nb')" $sh`, "CLEAT_NODE_NAME holds a line break"},
		{"an agent stays one", `unshare -m sh -c "mount -t tmpfs tmpfs /etc/systemd/system && echo CLEAT_SERVER=https://n1:6443 >/etc/systemd/system/cleat.service.env && $sh --print-unit --debug"; exit 1`, `cleat agent "--debug"`},
		{"k3s", `cp /bin/sleep /tmp/k3s-server; /tmp/k3s-server 60 & trap "kill $!" EXIT; until grep -qx k3s-server /proc/$!/comm; do :; done; INSTALL_CLEAT_BIN=bin $sh`, "k3s runs here"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out := d.shell(t, `cd `+inside+`; sh="sh install/install.sh"; if out=$( (`+c.script+"\n"+`) 2>&1); then echo SUCCESS; fi; echo "$out"`)
			if strings.HasPrefix(out, "SUCCESS") || !strings.Contains(out, c.want) {
				t.Errorf("got %q, want a failure with %q", out, c.want)
			}
			if after := d.shell(t, listing); after != before {
				t.Errorf("something was written\nbefore\n%s\nafter\n%s", before, after)
			}
		})
	}
}

// testFirst installs as the documentation says, through a pipe and from a server.
func testFirst(t *testing.T, d *debian, g guide) {
	begun := time.Now()
	out, err := d.patient(t, "first", fmt.Sprintf("export CLEAT_TOKEN=%s CLEAT_CLUSTER_DOMAIN=test.local ADDRESS=%s DIGEST=$(sha256sum <%s/bin/cleat | cut -c1-64)\n%s",
		secret, d.serve(t, d.path(web)), inside, g.fromWeb))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("installed and active after %.1f s\n%s", time.Since(begun).Seconds(), out)
	if state := d.shell(t, `systemctl is-active cleat; systemctl is-enabled cleat`); state != "active\nenabled" {
		t.Fatalf("the service is %s", state)
	}
	if status := d.property(t, "StatusText"); !strings.HasPrefix(status, "ready: ") {
		t.Errorf("systemctl status says %q", status)
	}
	if nodes := d.shell(t, `readlink /usr/local/bin/kubectl /usr/local/bin/crictl /usr/local/bin/ctr`); nodes != "cleat\ncleat\ncleat" {
		t.Errorf("links: %s", nodes)
	}
	d.awaitReady(t)
	if label := d.must(t, "kubectl", "get", "node", "debian", "-o", "jsonpath={.metadata.labels.zone}"); label != "hall-2" {
		t.Errorf("the label that a flag gives: %q", label)
	}
	d.shell(t, "set -e\n"+g.look)
	if out := d.shell(t, `systemd-analyze verify /etc/systemd/system/cleat.service 2>&1`); out != "" {
		t.Errorf("systemd-analyze verify: %s", out)
	}
	d.must(t, "kubectl", "run", "sleeper", "--image=cleat.dev/busybox:test", "--", "sleep", "98765")
	t.Log(d.pod(t))
}

// testSecrets: the token is in files for root alone, and nowhere else.
func testSecrets(t *testing.T, d *debian) {
	if mode := d.shell(t, `stat -c '%a %U' /etc/systemd/system/cleat.service.env`); mode != "600 root" {
		t.Errorf("mode of the variables: %s", mode)
	}
	if env := d.shell(t, `cat /etc/systemd/system/cleat.service.env`); env != "CLEAT_CLUSTER_DOMAIN=\"test.local\"\nCLEAT_TOKEN=\""+secret+"\"" {
		t.Errorf("variables: %s", env)
	}
	for _, look := range []string{
		`journalctl --no-pager --output=export`,
		`ps -ewwo args`,
		`systemctl cat cleat; systemctl show cleat`,
	} {
		out := d.shell(t, look)
		if !strings.Contains(out, "cleat") {
			t.Errorf("%s shows nothing of cleat", look)
		}
		if strings.Contains(out, secret) {
			t.Errorf("%s shows the token", look)
		}
	}
	// The shims are the server's children and outlive it.
	shims := d.shell(t, `for pid in $(pgrep -f containerd-shim); do tr '\0' '\n' </proc/$pid/environ; done`)
	if !strings.Contains(shims, "PATH=") {
		t.Errorf("no shim found: %q", shims)
	}
	for _, word := range []string{secret, "NOTIFY_SOCKET", "WATCHDOG_USEC"} {
		if strings.Contains(shims, word) {
			t.Errorf("a shim has %s in its environment", word)
		}
	}
}

// testAgain: the same once more changes nothing, without the flags neither.
func testAgain(t *testing.T, d *debian, g guide) {
	before := d.shell(t, listing) + d.property(t, "MainPID")
	for name, script := range map[string]string{
		"from the directory": g.fromDirectory,
		"without flags":      `INSTALL_CLEAT_BIN=bin sh install/install.sh`,
		"otherwise given":    `INSTALL_CLEAT_BIN=bin INSTALL_CLEAT_EXEC="server --node-label" sh install/install.sh zone=hall-2 --token ` + secret,
	} {
		out := d.shell(t, "cd "+inside+"\n("+script+"\n) 2>&1")
		if !strings.Contains(out, "nothing changed") {
			t.Errorf("%s: %s", name, out)
		}
		if after := d.shell(t, listing) + d.property(t, "MainPID"); after != before {
			t.Errorf("%s\nbefore\n%s\nafter\n%s", name, before, after)
		}
	}
}

// keeps wants the pod's process untouched by what is done to the server, which is
// another process then.
func keeps(t *testing.T, d *debian, do func()) {
	t.Helper()
	pod, server := d.pod(t), d.property(t, "MainPID")
	do()
	d.awaitReady(t)
	if now := d.pod(t); now != pod {
		t.Errorf("the pod\nbefore %s\nafter  %s", pod, now)
	}
	if now := d.property(t, "MainPID"); now == server || now == "0" {
		t.Errorf("the server is process %s still", now)
	}
}

func testRestart(t *testing.T, d *debian) {
	keeps(t, d, func() {
		begun := time.Now()
		if _, err := d.patient(t, "restart", "systemctl restart cleat"); err != nil {
			t.Error(err)
		}
		t.Logf("restarted in %.1f s", time.Since(begun).Seconds())
	})
}

func testUpgrade(t *testing.T, d *debian, g guide) {
	// A byte behind the program makes another file of it that runs all the same.
	d.shell(t, `printf '\0' >>`+inside+`/bin/cleat`)
	keeps(t, d, func() {
		out, err := d.patient(t, "upgrade", "cd "+inside+"\n"+g.fromDirectory)
		if err != nil || !strings.Contains(out, "restarting cleat") {
			t.Error(err, out)
		}
	})
	d.must(t, "cmp", inside+"/bin/cleat", "/usr/local/bin/cleat")
	if exec := d.property(t, "ExecStart"); !strings.Contains(exec, "server --node-label zone=hall-2 ;") {
		t.Errorf("the flags of the installation: %s", exec)
	}
}

func testKill(t *testing.T, d *debian) {
	keeps(t, d, func() {
		d.must(t, "systemctl", "kill", "--kill-who=main", "--signal=KILL", "cleat")
		lab.Eventually(t, bootPatience, "systemd has started it again", func() error {
			if restarts, state := d.property(t, "NRestarts"), d.property(t, "ActiveState"); restarts != "1" || state != "active" {
				return fmt.Errorf("%s restarts, %s", restarts, state)
			}
			return nil
		})
	})
}

func testStop(t *testing.T, d *debian) {
	sleeper := d.sleeper(t)
	begun := time.Now()
	d.must(t, "systemctl", "stop", "cleat")
	t.Logf("stopped in %.1f s", time.Since(begun).Seconds())
	if result := d.property(t, "Result") + " " + d.property(t, "ActiveState"); result != "success inactive" {
		t.Errorf("the stop: %s", result)
	}
	if now := d.sleeper(t); now != sleeper {
		t.Errorf("the pod's process\nbefore %s\nafter  %s", sleeper, now)
	}
}

// testWrongConfiguration: who starts it learns why it does not.
func testWrongConfiguration(t *testing.T, d *debian) {
	d.WriteFile(t, disk+"/etc/cleat/config.yaml", "node-nam: n1\n")
	out := d.shell(t, `if INSTALL_CLEAT_BIN=`+inside+`/bin sh `+inside+`/install/install.sh 2>&1; then echo SUCCESS; fi
		journalctl --no-pager --output=cat --unit=cleat --lines=20`)
	if strings.Contains(out, "SUCCESS") || strings.Count(out, "node-name") < 2 || !strings.Contains(out, "did not start, see above") {
		t.Errorf("what the script and the journal say:\n%s", out)
	}
	t.Log(out)
}
