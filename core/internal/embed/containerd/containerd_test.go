package containerd

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"strings"
	"syscall"
	"testing"
	"time"

	client "github.com/containerd/containerd/v2/client"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// inNamespaces is set in the process that runs inside its own namespaces.
const inNamespaces = "CLEAT_TEST_IN_NAMESPACES"

// TestMain runs the tests again in mount and network namespaces of their own,
// where /run and /etc/cni are empty and nothing of the machine is touched.
func TestMain(m *testing.M) {
	if os.Getenv(inNamespaces) == "" {
		os.Exit(rerun())
	}
	for _, dir := range []string{"/run", "/etc/cni"} {
		if err := hide(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func rerun() int {
	runtime.LockOSThread() // the child dies with this thread
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), inNamespaces+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	if uid := os.Geteuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getegid(), Size: 1}}
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "in namespaces:", err)
		return 1
	}
	return 0
}

func hide(dir string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("tmpfs on %s: %w", dir, err)
	}
	return nil
}

const testConfig = `version = 4
root = '%[1]s/root'
state = '%[1]s/state'
imports = []
[timeouts]
  'io.containerd.timeout.bolt.open' = '1s'
[plugins.'io.containerd.server.v1.grpc']
  address = '%[1]s/c.sock'
[plugins.'io.containerd.server.v1.ttrpc']
  address = '%[1]s/c.sock.ttrpc'
[plugins.'io.containerd.grpc.v1.cri']
  disable_tcp_service = true
  stream_server_port = '0'
[plugins.'io.containerd.cri.v1.images']
  snapshotter = 'overlayfs'
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  restrict_oom_score_adj = true
`

// TestRun is one test since containerd can be started once in a process.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	config := filepath.Join(dir, "config.toml")
	if err := os.WriteFile(config, fmt.Appendf(nil, testConfig, dir), 0o600); err != nil {
		t.Fatal(err)
	}
	before := runtime.NumGoroutine()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stopped := make(chan error, 1)
	go func() { stopped <- Run(ctx, config) }()

	socket := filepath.Join(dir, "c.sock")
	askCRI(t, "unix://"+socket, stopped)
	for _, s := range []string{socket, socket + ".ttrpc"} {
		info, err := os.Stat(s)
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s: mode %v, %v", s, info.Mode(), err)
		}
	}
	askClient(t, socket)
	if code := Ctr([]string{"ctr", "--address", socket, "version"}); code != 0 {
		t.Errorf("ctr version: exit code %d", code)
	}
	if code := Ctr([]string{"ctr", "--address", socket, "containers", "info", "none"}); code == 0 {
		t.Error("ctr: asking for a container that is not there: exit code 0")
	}
	t.Logf("%d goroutines while running", runtime.NumGoroutine()-before)

	begin := time.Now()
	cancel()
	if err := <-stopped; err != nil {
		t.Errorf("stop: %v", err)
	}
	t.Logf("stopped in %s", time.Since(begin))
	for _, s := range []string{socket, socket + ".ttrpc"} {
		if _, err := os.Stat(s); !os.IsNotExist(err) {
			t.Errorf("%s is still there: %v", s, err)
		}
	}
	expectGoroutines(t, before)
}

func askCRI(t *testing.T, endpoint string, stopped <-chan error) {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	deadline := time.After(time.Minute)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		answer, err := cri.NewRuntimeServiceClient(conn).Status(t.Context(), &cri.StatusRequest{}, grpc.WaitForReady(false))
		if err == nil && answer.GetStatus().GetConditions()[0].GetStatus() {
			return
		}
		conn.ResetConnectBackoff()
		select {
		case err := <-stopped:
			t.Fatalf("containerd ended: %v", err)
		case <-deadline:
			t.Fatalf("the CRI does not answer: %v", err)
		case <-tick.C:
		}
	}
}

func askClient(t *testing.T, socket string) {
	t.Helper()
	c, err := client.New(socket, client.WithDefaultNamespace(kubernetesNamespace))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := c.ListImages(t.Context()); err != nil {
		t.Error(err)
	}
}

// expectGoroutines waits until no more run than before, save the few that
// containerd keeps for the life of the process.
func expectGoroutines(t *testing.T, before int) {
	t.Helper()
	const kept = 12
	deadline := time.After(time.Minute)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for runtime.NumGoroutine() > before+kept {
		select {
		case <-deadline:
			var stacks strings.Builder
			_ = pprof.Lookup("goroutine").WriteTo(&stacks, 1)
			t.Fatalf("%d goroutines more than before\n%s", runtime.NumGoroutine()-before, stacks.String())
		case <-tick.C:
		}
	}
	t.Logf("%d goroutines left", runtime.NumGoroutine()-before)
}
