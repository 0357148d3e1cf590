//go:build e2e

package install

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	// disk is where, in the lab's machine, the directories of the Debian are that
	// must be on a real disk.
	disk = "/var/lib/cleat/debian"

	bootPatience = 4 * time.Minute // for a machine that does other work too
	podPatience  = 90 * time.Second
)

func TestMain(m *testing.M) {
	lab.Main()
	os.Exit(m.Run())
}

// debian is a machine whose first process is systemd.
type debian struct {
	*lab.Machine
	init string // number of the first process in the lab's machine
}

func artefact(t *testing.T, path, makeTarget string) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("..", "..", path))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		t.Fatalf("%v: run make %s first", err, makeTarget)
	}
	return path
}

// newDebian boots a Debian, from build/debian-root, that nothing of cleat has touched.
func newDebian(t *testing.T) *debian {
	t.Helper()
	root := artefact(t, "build/debian-root", "debian-root")
	d := &debian{Machine: lab.New(t).Machine("debian")}
	systemd := d.Start(t, "systemd", "unshare", "--pid", "--mount", "--fork", "--kill-child", "--propagation=private",
		"sh", artefact(t, "test/install/boot.sh", "build"), root, disk)
	lab.Eventually(t, bootPatience, "systemd is up", func() error {
		if ended, err := systemd.Ended(); ended {
			t.Fatalf("systemd ended: %v\n%s", err, systemd.Log())
		}
		pids, err := d.Machine.Run("pgrep", "-x", "systemd")
		if err != nil {
			return err
		}
		d.init = strings.TrimSpace(pids)
		out, err := d.run("systemctl", "is-system-running")
		if strings.TrimSpace(out) != "running" {
			return fmt.Errorf("%s: %w", out, err)
		}
		return nil
	})
	t.Cleanup(func() {
		if t.Failed() {
			out, err := d.run("journalctl", "--no-pager", "--lines=150", "--output=cat", "--unit=cleat")
			t.Logf("the end of the journal: %v\n%s", err, out)
		}
	})
	return d
}

// run runs a command beside the systemd.
func (d *debian) run(args ...string) (string, error) {
	return d.Machine.Run(append([]string{"nsenter", "--target", d.init, "--mount", "--pid", "--wdns=/", "--"}, args...)...)
}

func (d *debian) must(t *testing.T, args ...string) string {
	t.Helper()
	out, err := d.run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(out)
}

func (d *debian) shell(t *testing.T, script string) string {
	t.Helper()
	return d.must(t, "sh", "-c", script)
}

// patient runs a script that may wait for a server's start, and returns all it
// wrote. name is a word for it that is used once.
func (d *debian) patient(t *testing.T, name, script string) (string, error) {
	t.Helper()
	p := d.Start(t, name, "nsenter", "--target", d.init, "--mount", "--pid", "--wdns=/", "--", "sh", "-c", script)
	err := p.Wait(t, bootPatience)
	return p.Log(), err
}

// path is where a file below one of the directories on disk is on the host.
func (d *debian) path(inside string) string { return d.Path(disk + inside) }

// serve offers files to the machine over HTTP and returns the address.
func (d *debian) serve(t *testing.T, dir string) string {
	t.Helper()
	listener := d.Listen(t, 8000)
	server := &http.Server{Handler: http.FileServer(http.Dir(dir)), ReadHeaderTimeout: time.Minute}
	go server.Serve(listener) // ends with an error when the listener is closed
	return "http://" + listener.Addr().String()
}

// property is one of what systemctl show tells of the service.
func (d *debian) property(t *testing.T, name string) string {
	t.Helper()
	return d.must(t, "systemctl", "show", "--value", "--property="+name, "cleat.service")
}

// pod is what must not change when the server does: the container, when it was
// started and its process.
func (d *debian) pod(t *testing.T) string {
	t.Helper()
	var pod string
	lab.Eventually(t, bootPatience, "the pod is known to run", func() error {
		out, err := d.run("kubectl", "get", "pod", "sleeper", "-o",
			`jsonpath={.status.phase} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].state.running.startedAt} {.status.containerStatuses[0].restartCount}`)
		if err != nil {
			return err
		}
		if !strings.HasPrefix(out, "Running containerd://") {
			return errors.New(out)
		}
		pod = out
		return nil
	})
	return pod + " process " + d.sleeper(t)
}

// sleeper is the number of the pod's process and when it was started.
func (d *debian) sleeper(t *testing.T) string {
	t.Helper()
	return d.shell(t, `ps -eo pid,lstart,args | grep '[s]leep 98765'`)
}

func (d *debian) awaitReady(t *testing.T) {
	t.Helper()
	lab.Eventually(t, bootPatience, "the node is Ready", func() error {
		out, err := d.run("kubectl", "get", "node", "debian", "-o", `jsonpath={.status.conditions[?(@.type=="Ready")].status}`)
		if err == nil && out != "True" {
			err = fmt.Errorf("Ready: %q", out)
		}
		return err
	})
}
