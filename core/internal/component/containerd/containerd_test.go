package containerd

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	"github.com/google/go-cmp/cmp"
	"github.com/pelletier/go-toml/v2"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
)

func newComponent(t *testing.T) *Component {
	t.Helper()
	return &Component{
		Config: &config.Config{Options: config.Options{Snapshotter: "overlayfs", PauseImage: "registry.local/pause:3.10", DefaultRuntime: "runc"}},
		Data:   paths.Data(t.TempDir()),
		BinDir: "/x/bin",
		Log:    slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
}

func (c *Component) prepared(t *testing.T) map[string]any {
	t.Helper()
	if err := c.Prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(c.Data.ContainerdConfig())
	if err != nil {
		t.Fatal(err)
	}
	var parsed map[string]any
	if err := toml.Unmarshal(content, &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

func at(t *testing.T, tree map[string]any, keys ...string) any {
	t.Helper()
	var v any = tree
	for _, k := range keys {
		m, _ := v.(map[string]any)
		if v = m[k]; v == nil {
			t.Fatalf("no %s in %v", k, m)
		}
	}
	return v
}

func TestRuntimeOptions(t *testing.T) {
	c := newComponent(t)
	c.Config.NonrootDevices = true
	c.Config.ImageServiceEndpoint = "/run/images.sock"
	c.Config.DefaultRuntime = "crun"
	err := c.Prepare(t.Context())
	if err == nil || !strings.Contains(err.Error(), `--default-runtime "crun" is not among the runtimes of built-in template, which are runc`) {
		t.Fatalf("a default runtime that is not there: %v", err)
	}
	template := `{{ template "base" . }}
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.crun]
  runtime_type = 'io.containerd.runc.v2'
`
	if err := os.MkdirAll(filepath.Dir(c.Data.ContainerdTemplate()), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(c.Data.ContainerdTemplate(), []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	got := c.prepared(t)
	if v := at(t, got, "plugins", "io.containerd.cri.v1.runtime", "containerd", "default_runtime_name"); v != "crun" {
		t.Errorf("default runtime %v", v)
	}
	if v := at(t, got, "plugins", "io.containerd.cri.v1.runtime", "device_ownership_from_security_context"); v != true {
		t.Errorf("devices of the user: %v", v)
	}
	crictl, err := os.ReadFile(c.Data.CrictlConfig())
	if err != nil || !strings.Contains(string(crictl), `image-endpoint: "unix:///run/images.sock"`) {
		t.Errorf("crictl.yaml %q, %v", crictl, err)
	}
}

func TestPrepareWritesConfig(t *testing.T) {
	c := newComponent(t)
	c.Config.Host = config.Host{AppArmor: true, CanRaiseOOMScore: true}
	got := c.prepared(t)
	runtime := at(t, got, "plugins", "io.containerd.cri.v1.runtime").(map[string]any)
	want := map[string]any{
		"disable_apparmor":       false,
		"restrict_oom_score_adj": false,

		"device_ownership_from_security_context": false,
		"containerd": map[string]any{
			"default_runtime_name": "runc",
			"runtimes": map[string]any{"runc": map[string]any{
				"runtime_type": "io.containerd.runc.v2",
				"runtime_path": "/x/bin/containerd-shim-runc-v2",
				"options":      map[string]any{"BinaryName": "/x/bin/runc", "SystemdCgroup": false},
			}},
		},
		"cni": map[string]any{
			"bin_dirs":              []any{"/x/bin", "/opt/cni/bin"},
			"conf_dir":              "/etc/cni/net.d",
			"use_internal_loopback": true,
		},
	}
	if diff := cmp.Diff(want, runtime); diff != "" {
		t.Error(diff)
	}
	if v := at(t, got, "version"); v != int64(4) {
		t.Errorf("version %v", v)
	}
	if v := at(t, got, "root"); v != c.Data.Containerd() {
		t.Errorf("root %v", v)
	}
	if v := at(t, got, "plugins", "io.containerd.cri.v1.images", "pinned_images", "sandbox"); v != c.Config.PauseImage {
		t.Errorf("sandbox image %v", v)
	}
	info, err := os.Stat(c.Data.ContainerdConfig())
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	crictl, err := os.ReadFile(c.Data.CrictlConfig())
	if err != nil || !strings.Contains(string(crictl), `runtime-endpoint: "unix:///run/cleat/containerd/containerd.sock"`) {
		t.Errorf("crictl.yaml %q, %v", crictl, err)
	}
}

func TestPrepareConfinedHost(t *testing.T) {
	c := newComponent(t)
	c.Config.Host = config.Host{AppArmor: true, UserNamespace: true}
	runtime := at(t, c.prepared(t), "plugins", "io.containerd.cri.v1.runtime").(map[string]any)
	if runtime["disable_apparmor"] != true || runtime["restrict_oom_score_adj"] != true {
		t.Errorf("apparmor %v, oom %v", runtime["disable_apparmor"], runtime["restrict_oom_score_adj"])
	}
}

func TestPrepareCredentials(t *testing.T) {
	c := newComponent(t)
	c.Config.PrivateRegistry = filepath.Join(t.TempDir(), "registries.yaml")
	secret := "p\"w\\n\x7f'"
	content := "configs: {\"r.example:5000\": {auth: {username: u, password: \"p\\\"w\\\\n\\x7f'\"}}}"
	if err := os.WriteFile(c.Config.PrivateRegistry, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	auth := at(t, c.prepared(t), "plugins", "io.containerd.cri.v1.images", "registry", "configs", "r.example:5000", "auth").(map[string]any)
	if auth["username"] != "u" || auth["password"] != secret {
		t.Errorf("%q", auth)
	}
}

func TestPrepareReportsMissingCertificate(t *testing.T) {
	c := newComponent(t)
	c.Config.PrivateRegistry = filepath.Join(t.TempDir(), "registries.yaml")
	if err := os.WriteFile(c.Config.PrivateRegistry, []byte("configs: {r.example: {tls: {ca_file: /none/ca.pem}}}"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.Prepare(t.Context())
	if err == nil || !strings.Contains(err.Error(), `configs."r.example".tls.ca_file: open /none/ca.pem`) {
		t.Error(err)
	}
}

func TestTemplateOverride(t *testing.T) {
	for _, tc := range []struct{ name, template, want string }{
		{"extended", "{{ template \"base\" . }}\n[proxy_plugins.x]\n  type = 'snapshot'\n", ""},
		{"syntax", "version = 4\n\n{{ if }}", "config.toml.tmpl:3"},
		{"unknown value", "version = 4\nroot = {{ .Rooot }}", "config.toml.tmpl:2"},
		{"no toml", "version = 4\n{{ template \"base\" . }}", "line 4"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			c := newComponent(t)
			path := c.Data.ContainerdTemplate()
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, []byte(tc.template), 0o600); err != nil {
				t.Fatal(err)
			}
			if tc.want == "" {
				if v := at(t, c.prepared(t), "proxy_plugins", "x", "type"); v != "snapshot" {
					t.Errorf("type %v", v)
				}
				return
			}
			err := c.Prepare(t.Context())
			if err == nil || !strings.Contains(err.Error(), tc.want) || !strings.Contains(err.Error(), path) {
				t.Errorf("error %v, want %s and %q", err, path, tc.want)
			}
		})
	}
}

func TestPrepareEndpoint(t *testing.T) {
	c := newComponent(t)
	c.Config.ContainerRuntimeEndpoint = "tcp://127.0.0.1:1"
	if err := c.Prepare(t.Context()); err == nil || !strings.Contains(err.Error(), "tcp://127.0.0.1:1") {
		t.Error(err)
	}
	c.Config.ContainerRuntimeEndpoint = "/run/crio.sock"
	if err := c.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.Data.ContainerdConfig()); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("configuration written for an external runtime: %v", err)
	}
}

// runtimeServer answers as a runtime does that becomes ready at the third question.
type runtimeServer struct {
	cri.UnimplementedRuntimeServiceServer
	asked int
}

func (*runtimeServer) Version(context.Context, *cri.VersionRequest) (*cri.VersionResponse, error) {
	return &cri.VersionResponse{RuntimeApiVersion: "v1"}, nil
}

func (s *runtimeServer) Status(context.Context, *cri.StatusRequest) (*cri.StatusResponse, error) {
	s.asked++
	return &cri.StatusResponse{Status: &cri.RuntimeStatus{Conditions: []*cri.RuntimeCondition{
		{Type: cri.NetworkReady}, {Type: cri.RuntimeReady, Status: s.asked >= 3},
	}}}, nil
}

func TestRunWaitsForExternalRuntime(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "cri.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	answers := &runtimeServer{}
	server := grpc.NewServer()
	cri.RegisterRuntimeServiceServer(server, answers)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})

	c := newComponent(t)
	c.Config.ContainerRuntimeEndpoint = socket
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := c.Run(ctx, cancel); err != nil {
		t.Fatal(err)
	}
	if answers.asked != 3 {
		t.Errorf("asked %d times", answers.asked)
	}
	if err := c.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRunFailsWithTheRuntime(t *testing.T) {
	boom := errors.New("boom")
	c := newComponent(t)
	for _, tc := range []struct {
		ends error
		want string
	}{{boom, "boom"}, {nil, "stopped by itself"}} {
		c.Start = func(context.Context, string) error { return tc.ends }
		err := c.Run(t.Context(), func() { t.Error("ready") })
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("error %v, want %q", err, tc.want)
		}
	}
}

// introspector is a containerd whose CRI plugin did not start.
type introspector struct {
	introspection.UnimplementedIntrospectionServer
}

func (introspector) Plugins(context.Context, *introspection.PluginsRequest) (*introspection.PluginsResponse, error) {
	return &introspection.PluginsResponse{Plugins: []*introspection.Plugin{
		{Type: "io.containerd.snapshotter.v1", ID: "zfs", InitErr: &rpcstatus.Status{Message: "no zfs here"}},
		{Type: "io.containerd.cri.v1", ID: "runtime", InitErr: &rpcstatus.Status{Message: "inotify: too many open files"}},
	}}, nil
}

func TestMissingCRIIsExplained(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	introspection.RegisterIntrospectionServer(server, introspector{})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	client, err := dialCRI("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	defer client.close()
	var final noCRI
	if err := client.probe(t.Context()); !errors.As(err, &final) {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{"runtime: inotify: too many open files", "fs.inotify.max_user_instances"} {
		if !strings.Contains(final.Error(), want) {
			t.Errorf("%q does not say %q", final.Error(), want)
		}
	}
	if strings.Contains(final.Error(), "zfs") {
		t.Errorf("%q tells of what the CRI does not need", final.Error())
	}
}
