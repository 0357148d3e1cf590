package crictl

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
	"k8s.io/cri-streaming/pkg/streaming"
	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	utilexec "k8s.io/utils/exec"
)

// runtimeServer is a container runtime with two pods, three containers and two
// images, on a unix socket.
type runtimeServer struct {
	runtimeapi.UnimplementedRuntimeServiceServer
	runtimeapi.UnimplementedImageServiceServer
	socket  string
	logPath string
	stream  streaming.Server

	mu         sync.Mutex
	containers []*runtimeapi.Container
	pods       []*runtimeapi.PodSandbox
	images     []*runtimeapi.Image
	calls      []string
	pulled     *runtimeapi.AuthConfig
	cpu        uint64
}

const (
	second = int64(time.Second)
	idWeb  = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	idOld  = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
	idDNS  = "cccccccccccccccccccccccccccccccc"
	podWeb = "111111111111111111111111"
	podDNS = "222222222222222222222222"
)

func startRuntime(t *testing.T) *runtimeServer {
	t.Helper()
	container := func(id, pod, podName, namespace, name string, state runtimeapi.ContainerState, created int64) *runtimeapi.Container {
		return &runtimeapi.Container{
			Id: id, PodSandboxId: pod, Metadata: &runtimeapi.ContainerMetadata{Name: name, Attempt: 1}, State: state, CreatedAt: created,
			Image: &runtimeapi.ImageSpec{Image: "sha256:" + strings.Repeat("d", 64), UserSpecifiedImage: "example.test/" + name + ":1"}, ImageRef: "sha256:used",
			Labels: map[string]string{labelPodName: podName, labelPodNamespace: namespace, "app": name},
		}
	}
	dir := t.TempDir()
	r := &runtimeServer{
		socket:  filepath.Join(dir, "cri.sock"),
		logPath: filepath.Join(dir, "1.log"),
		containers: []*runtimeapi.Container{
			container(idWeb, podWeb, "web-0", "default", "web", runtimeapi.ContainerState_CONTAINER_RUNNING, 3*second),
			container(idOld, podWeb, "web-0", "default", "init", runtimeapi.ContainerState_CONTAINER_EXITED, 2*second),
			container(idDNS, podDNS, "dns-0", "kube-system", "dns", runtimeapi.ContainerState_CONTAINER_RUNNING, 1*second),
		},
		pods: []*runtimeapi.PodSandbox{
			{Id: podWeb, Metadata: &runtimeapi.PodSandboxMetadata{Name: "web-0", Namespace: "default", Uid: "u1"}, CreatedAt: 3 * second, State: runtimeapi.PodSandboxState_SANDBOX_READY},
			{Id: podDNS, Metadata: &runtimeapi.PodSandboxMetadata{Name: "dns-0", Namespace: "kube-system", Uid: "u2"}, CreatedAt: second, State: runtimeapi.PodSandboxState_SANDBOX_NOTREADY},
		},
		images: []*runtimeapi.Image{
			{Id: "sha256:used", RepoTags: []string{"registry.test:5000/web:1"}, RepoDigests: []string{"registry.test:5000/web@sha256:abc"}, Size: 1234567},
			{Id: "sha256:free", RepoDigests: []string{"example.test/free@sha256:def"}, Size: 5},
			{Id: "sha256:pinned", RepoTags: []string{"cleat.dev/pause:1"}, Size: 5, Pinned: true},
		},
	}
	listener, err := net.Listen("unix", r.socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	runtimeapi.RegisterRuntimeServiceServer(server, r)
	runtimeapi.RegisterImageServiceServer(server, r)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.stream.ServeHTTP(w, req) }))
	t.Cleanup(front.Close)
	base, err := url.Parse(front.URL)
	if err != nil {
		t.Fatal(err)
	}
	config := streaming.DefaultConfig
	config.BaseURL = base
	if r.stream, err = streaming.NewServer(config, shell{}); err != nil {
		t.Fatal(err)
	}
	return r
}

// called notes a call that changes something.
func (r *runtimeServer) called(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *runtimeServer) Version(context.Context, *runtimeapi.VersionRequest) (*runtimeapi.VersionResponse, error) {
	return &runtimeapi.VersionResponse{Version: "0.1.0", RuntimeName: "testd", RuntimeVersion: "v9", RuntimeApiVersion: "v1"}, nil
}

func (r *runtimeServer) Status(_ context.Context, req *runtimeapi.StatusRequest) (*runtimeapi.StatusResponse, error) {
	res := &runtimeapi.StatusResponse{Status: &runtimeapi.RuntimeStatus{Conditions: []*runtimeapi.RuntimeCondition{
		{Type: runtimeapi.RuntimeReady, Status: true}, {Type: runtimeapi.NetworkReady, Status: true},
	}}}
	if req.GetVerbose() {
		res.Info = map[string]string{"config": `{"snapshotter":"x"}`, "note": "plain"}
	}
	return res, nil
}

func (r *runtimeServer) ListContainers(_ context.Context, req *runtimeapi.ListContainersRequest) (*runtimeapi.ListContainersResponse, error) {
	f := req.GetFilter()
	return &runtimeapi.ListContainersResponse{Containers: slices.DeleteFunc(slices.Clone(r.containers), func(c *runtimeapi.Container) bool {
		return f.GetState() != nil && f.GetState().GetState() != c.GetState() || !strings.HasPrefix(c.GetId(), f.GetId()) ||
			!strings.HasPrefix(c.GetPodSandboxId(), f.GetPodSandboxId()) || f.GetLabelSelector()["app"] != "" && f.GetLabelSelector()["app"] != c.GetLabels()["app"]
	})}, nil
}

func (r *runtimeServer) ListPodSandbox(_ context.Context, req *runtimeapi.ListPodSandboxRequest) (*runtimeapi.ListPodSandboxResponse, error) {
	f := req.GetFilter()
	return &runtimeapi.ListPodSandboxResponse{Items: slices.DeleteFunc(slices.Clone(r.pods), func(p *runtimeapi.PodSandbox) bool {
		return f.GetState() != nil && f.GetState().GetState() != p.GetState()
	})}, nil
}

func (r *runtimeServer) ContainerStatus(_ context.Context, req *runtimeapi.ContainerStatusRequest) (*runtimeapi.ContainerStatusResponse, error) {
	for _, c := range r.containers {
		if strings.HasPrefix(c.GetId(), req.GetContainerId()) {
			res := &runtimeapi.ContainerStatusResponse{Status: &runtimeapi.ContainerStatus{
				Id: c.GetId(), Metadata: c.GetMetadata(), State: c.GetState(), CreatedAt: c.GetCreatedAt(), StartedAt: c.GetCreatedAt(),
				Image: c.GetImage(), ImageRef: c.GetImageRef(), LogPath: r.logPath,
			}}
			if req.GetVerbose() {
				res.Info = map[string]string{"info": `{"pid":1234567}`}
			}
			return res, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such container")
}

func (r *runtimeServer) PodSandboxStatus(_ context.Context, req *runtimeapi.PodSandboxStatusRequest) (*runtimeapi.PodSandboxStatusResponse, error) {
	for _, p := range r.pods {
		if strings.HasPrefix(p.GetId(), req.GetPodSandboxId()) {
			return &runtimeapi.PodSandboxStatusResponse{Status: &runtimeapi.PodSandboxStatus{
				Id: p.GetId(), Metadata: p.GetMetadata(), State: p.GetState(), CreatedAt: p.GetCreatedAt(),
			}}, nil
		}
	}
	return nil, status.Error(codes.NotFound, "no such pod")
}

func (r *runtimeServer) StopContainer(_ context.Context, req *runtimeapi.StopContainerRequest) (*runtimeapi.StopContainerResponse, error) {
	r.called("stop %s %d", req.GetContainerId()[:3], req.GetTimeout())
	return &runtimeapi.StopContainerResponse{}, nil
}

func (r *runtimeServer) RemoveContainer(_ context.Context, req *runtimeapi.RemoveContainerRequest) (*runtimeapi.RemoveContainerResponse, error) {
	r.called("rm %s", req.GetContainerId()[:3])
	return &runtimeapi.RemoveContainerResponse{}, nil
}

func (r *runtimeServer) StopPodSandbox(_ context.Context, req *runtimeapi.StopPodSandboxRequest) (*runtimeapi.StopPodSandboxResponse, error) {
	r.called("stopp %s", req.GetPodSandboxId()[:3])
	return &runtimeapi.StopPodSandboxResponse{}, nil
}

func (r *runtimeServer) RemovePodSandbox(_ context.Context, req *runtimeapi.RemovePodSandboxRequest) (*runtimeapi.RemovePodSandboxResponse, error) {
	r.called("rmp %s", req.GetPodSandboxId()[:3])
	return &runtimeapi.RemovePodSandboxResponse{}, nil
}

func (r *runtimeServer) ListContainerStats(context.Context, *runtimeapi.ListContainerStatsRequest) (*runtimeapi.ListContainerStatsResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cpu += uint64(second / 4)
	return &runtimeapi.ListContainerStatsResponse{Stats: []*runtimeapi.ContainerStats{
		{
			Attributes: &runtimeapi.ContainerAttributes{Id: idWeb, Metadata: &runtimeapi.ContainerMetadata{Name: "web"}},
			Cpu:        &runtimeapi.CpuUsage{Timestamp: int64(r.cpu) * 2, UsageCoreNanoSeconds: &runtimeapi.UInt64Value{Value: r.cpu}},
			Memory:     &runtimeapi.MemoryUsage{WorkingSetBytes: &runtimeapi.UInt64Value{Value: 2000000}},
		},
		{Attributes: &runtimeapi.ContainerAttributes{Id: idOld, Metadata: &runtimeapi.ContainerMetadata{Name: "init"}}},
	}}, nil
}

func (r *runtimeServer) ListImages(context.Context, *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	return &runtimeapi.ListImagesResponse{Images: r.images}, nil
}

func (r *runtimeServer) ImageStatus(_ context.Context, req *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	for _, image := range r.images {
		if image.GetId() == req.GetImage().GetImage() || slices.Contains(image.GetRepoTags(), req.GetImage().GetImage()) {
			return &runtimeapi.ImageStatusResponse{Image: image}, nil
		}
	}
	return &runtimeapi.ImageStatusResponse{}, nil
}

func (r *runtimeServer) RemoveImage(_ context.Context, req *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	r.called("rmi %s", req.GetImage().GetImage())
	return &runtimeapi.RemoveImageResponse{}, nil
}

func (r *runtimeServer) PullImage(_ context.Context, req *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	r.called("pull %s", req.GetImage().GetImage())
	r.pulled = req.GetAuth()
	return &runtimeapi.PullImageResponse{ImageRef: "sha256:new"}, nil
}

func (r *runtimeServer) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: []*runtimeapi.FilesystemUsage{{UsedBytes: &runtimeapi.UInt64Value{Value: 7}}}}, nil
}

func (r *runtimeServer) ExecSync(_ context.Context, req *runtimeapi.ExecSyncRequest) (*runtimeapi.ExecSyncResponse, error) {
	return &runtimeapi.ExecSyncResponse{Stdout: []byte(strings.Join(req.GetCmd(), " ") + "\n"), Stderr: []byte("warned\n"), ExitCode: int32(len(req.GetCmd()) - 2)}, nil
}

func (r *runtimeServer) Exec(_ context.Context, req *runtimeapi.ExecRequest) (*runtimeapi.ExecResponse, error) {
	return r.stream.GetExec(req)
}

// shell is what runs in the containers: it repeats its command and its input
// and ends with status 3 if told to fail.
type shell struct{}

func (shell) Exec(_ context.Context, _ string, cmd []string, in io.Reader, out, err io.WriteCloser, tty bool, _ <-chan remotecommand.TerminalSize) error {
	fmt.Fprintf(out, "%s tty=%v\n", strings.Join(cmd, " "), tty)
	if in != nil {
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	if err != nil {
		fmt.Fprintln(err, "on stderr")
	}
	if cmd[0] == "fail" {
		return &utilexec.CodeExitError{Err: fmt.Errorf("failed"), Code: 3}
	}
	return nil
}

func (shell) Attach(context.Context, string, io.Reader, io.WriteCloser, io.WriteCloser, bool, <-chan remotecommand.TerminalSize) error {
	return fmt.Errorf("not part of these tests")
}

func (shell) PortForward(context.Context, string, int32, io.ReadWriteCloser) error {
	return fmt.Errorf("not part of these tests")
}
