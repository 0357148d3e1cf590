package crictl

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// crictl runs a command line against r.
func crictl(t *testing.T, r *runtimeServer, line ...string) (status int, out, err string) {
	t.Helper()
	t.Setenv("CONTAINER_RUNTIME_ENDPOINT", r.socket)
	var stdout, stderr bytes.Buffer
	status = Run(t.Context(), line, Stdio{In: strings.NewReader("input\n"), Out: &stdout, Err: &stderr})
	return status, stdout.String(), stderr.String()
}

func TestLists(t *testing.T) {
	r := startRuntime(t)
	for line, want := range map[string][]string{
		"ps -q":                               {idWeb, idDNS},
		"ps -aq":                              {idWeb, idOld, idDNS},
		"ps -q --state exited":                {idOld},
		"ps -q --name ^w":                     {idWeb},
		"ps -q --pod 222":                     {idDNS},
		"ps -q --namespace kube":              {idDNS},
		"ps -aq -l":                           {idWeb},
		"ps -aq -n 2":                         {idWeb, idOld},
		"ps -aq --label app=init":             {idOld},
		"ps -q --image example.test/web:1":    {idWeb},
		"pods -q":                             {podWeb, podDNS},
		"pods -q --state notready":            {podDNS},
		"pods -q --name dns --namespace kube": {podDNS},
		"images -q":                           {"sha256:free", "sha256:pinned", "sha256:used"},
	} {
		t.Run(line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(line)...)
			got := strings.Fields(out)
			if strings.HasPrefix(line, "images") {
				slices.Sort(got)
			}
			if diff := cmp.Diff(want, got); status != 0 || diff != "" {
				t.Errorf("status %d, %s\n(-want +got):\n%s", status, stderr, diff)
			}
		})
	}
}

func TestTables(t *testing.T) {
	r := startRuntime(t)
	for line, want := range map[string][]string{
		"ps":               {"CONTAINER", "POD ID", "aaaaaaaaaaaaa ", "example.test/web:1", "Running", "web-0", "kube-system"},
		"ps -a --no-trunc": {idOld, "Exited"},
		"pods":             {"POD ID", "NotReady", "(default)", "web-0"},
		"images":           {"IMAGE ID", "registry.test:5000/web", "1.23MB", "<none>"},
		"images --digests": {"DIGEST", "abc"},
		"stats":            {"CPU %", "50.00", "2MB"},
		"version":          {"Version:  0.1.0", "RuntimeName:  testd"},
	} {
		t.Run(line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(line)...)
			for _, part := range want {
				if status != 0 || !strings.Contains(out, part) {
					t.Errorf("status %d, %s, no %q in:\n%s", status, stderr, part, out)
				}
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	r := startRuntime(t)
	for line, check := range map[string]func(map[string]any) bool{
		"ps -o json": func(v map[string]any) bool {
			first := v["containers"].([]any)[0].(map[string]any)
			return first["id"] == idWeb && first["state"] == "CONTAINER_RUNNING" && first["createdAt"] == "3000000000"
		},
		"pods -o json":   func(v map[string]any) bool { return len(v["items"].([]any)) == 2 },
		"images -o json": func(v map[string]any) bool { return len(v["images"].([]any)) == 3 },
		"stats -o json":  func(v map[string]any) bool { return len(v["stats"].([]any)) == 2 },
		"inspect aaa": func(v map[string]any) bool {
			status := v["status"].(map[string]any)
			return status["createdAt"] == "1970-01-01T00:00:03Z" && status["finishedAt"] == "0001-01-01T00:00:00Z" &&
				v["info"].(map[string]any)["pid"] == float64(1234567)
		},
		"inspectp 222":         func(v map[string]any) bool { return v["status"].(map[string]any)["state"] == "SANDBOX_NOTREADY" },
		"inspecti sha256:free": func(v map[string]any) bool { return v["status"].(map[string]any)["id"] == "sha256:free" },
		"imagefsinfo":          func(v map[string]any) bool { return len(v["status"].(map[string]any)["imageFilesystems"].([]any)) == 1 },
		"info": func(v map[string]any) bool {
			return v["config"].(map[string]any)["snapshotter"] == "x" && v["note"] == "plain" && v["status"] != nil
		},
		"info -q": func(v map[string]any) bool { return v["config"] == nil },
	} {
		t.Run(line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(line)...)
			var v map[string]any
			if err := json.Unmarshal([]byte(out), &v); status != 0 || err != nil {
				t.Fatalf("status %d, %s, %v:\n%s", status, stderr, err, out)
			}
			if !check(v) {
				t.Errorf("got:\n%s", out)
			}
		})
	}
	if _, out, _ := crictl(t, r, "inspect", "-o", "go-template", "--template", "{{.info.pid}} {{.status.id}}", "aaa"); out != "1234567 "+idWeb+"\n" {
		t.Errorf("template gave %q", out)
	}
	if _, out, _ := crictl(t, r, "inspectp", "-o", "yaml", "111"); !strings.Contains(out, "name: web-0") {
		t.Errorf("yaml is %q", out)
	}
}

func TestChanges(t *testing.T) {
	r := startRuntime(t)
	for _, tc := range []struct {
		line, out string
		calls     []string
	}{
		{"stop -t 5 aaa", "aaa\n", []string{"stop aaa 5"}},
		{"stopp 111", "Stopped sandbox 111\n", []string{"stopp 111"}},
		{"rm bbb", "bbb\n", []string{"rm bbb"}},
		{"rm -f aaa", "aaa\n", []string{"stop aaa 0", "rm aaa"}},
		{"rmp 222", "Removed sandbox 222\n", []string{"rmp 222"}},
		{"rmp -fa", "Removed sandbox " + podWeb + "\nRemoved sandbox " + podDNS + "\n", []string{"stopp 111", "rmp 111", "rmp 222"}},
		{"rmi registry.test:5000/web:1", "Deleted: registry.test:5000/web:1\n", []string{"rmi registry.test:5000/web:1"}},
		{"rmi --prune", "Deleted: sha256:free\n", []string{"rmi sha256:free"}},
		{"pull --creds u:p example.test/x:1", "Image is up to date for sha256:new\n", []string{"pull example.test/x:1"}},
	} {
		t.Run(tc.line, func(t *testing.T) {
			r.calls = nil
			status, out, stderr := crictl(t, r, strings.Fields(tc.line)...)
			if status != 0 || out != tc.out || !slices.Equal(r.calls, tc.calls) {
				t.Errorf("status %d, %s, out %q, calls %q", status, stderr, out, r.calls)
			}
		})
	}
	if r.pulled.GetUsername() != "u" || r.pulled.GetPassword() != "p" {
		t.Errorf("pulled with %v", r.pulled)
	}
}

func TestErrors(t *testing.T) {
	r := startRuntime(t)
	for line, want := range map[string]string{
		"rm aaa":              "it is running",
		"rm":                  "--all",
		"rmp 111":             "it is running",
		"inspect zzz":         "no such container",
		"inspecti nope":       "no such image",
		"rmi nope":            "no such image",
		"ps --state odd":      "want created",
		"pods --state odd":    "want ready",
		"ps --name [":         "--name",
		"ps -o odd":           "--output",
		"ps -o go-template":   "--template",
		"logs -fp aaa":        "--follow",
		"logs --since x aaa":  "--since",
		"exec -st aaa x":      "--sync",
		"pull --auth % x":     "--auth",
		"nosuch":              "unknown command",
		"-c /nowhere ps":      "/nowhere",
		"-r /nowhere/sock ps": "start the server",
	} {
		t.Run(line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(line)...)
			if status != 1 || !strings.Contains(stderr, want) || out != "" {
				t.Errorf("status %d, out %q, err %q, want an error with %q", status, out, stderr, want)
			}
		})
	}
}

func TestExec(t *testing.T) {
	r := startRuntime(t)
	for _, tc := range []struct {
		line, out, err string
		status         int
	}{
		{"exec aaa echo -n x", "echo -n x tty=false\n", "on stderr\n", 0},
		{"exec -i aaa cat", "cat tty=false\ninput\n", "on stderr\n", 0},
		{"exec -it aaa cat", "cat tty=true\ninput\n", "", 0},
		{"exec aaa fail", "fail tty=false\n", "on stderr\n", 3},
		{"exec -s aaa echo a", "echo a\n", "warned\n", 0},
		{"exec -s aaa echo a b", "echo a b\n", "warned\n", 1},
	} {
		t.Run(tc.line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(tc.line)...)
			if status != tc.status || out != tc.out || stderr != tc.err {
				t.Errorf("status %d, out %q, err %q", status, out, stderr)
			}
		})
	}
}

func TestLogs(t *testing.T) {
	r := startRuntime(t)
	write := func(path, content string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(r.logPath, "2026-01-01T00:00:01Z stdout F one\n2026-01-01T00:00:02Z stderr F two\n2026-01-01T00:00:03Z stdout F three\n")
	write(filepath.Join(filepath.Dir(r.logPath), "0.log"), "2026-01-01T00:00:00Z stdout F before\n")
	for line, want := range map[string][2]string{
		"logs aaa":          {"one\nthree\n", "two\n"},
		"logs --tail 1 aaa": {"three\n", ""},
		"logs -p aaa":       {"before\n", ""},
		"logs --since 2026-01-01T00:00:02.5Z aaa": {"three\n", ""},
		"logs --limit-bytes 3 aaa":                {"one", ""},
		"logs -f bbb":                             {"one\nthree\n", "two\n"}, // it has ended, so following does
	} {
		t.Run(line, func(t *testing.T) {
			status, out, stderr := crictl(t, r, strings.Fields(line)...)
			if status != 0 || out != want[0] || stderr != want[1] {
				t.Errorf("status %d, out %q, err %q", status, out, stderr)
			}
		})
	}
}

func TestSettings(t *testing.T) {
	file := filepath.Join(t.TempDir(), "crictl.yaml")
	if err := os.WriteFile(file, []byte("runtime-endpoint: unix:///file.sock\ntimeout: 7\npull-image-on-create: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		app  app
		env  map[string]string
		want settings
	}{
		"default":     {want: settings{"unix:///run/cleat/containerd/containerd.sock", "unix:///run/cleat/containerd/containerd.sock", 2 * time.Second}},
		"file":        {app: app{configFile: file}, want: settings{"unix:///file.sock", "unix:///file.sock", 7 * time.Second}},
		"file by env": {env: map[string]string{"CRI_CONFIG_FILE": file}, want: settings{"unix:///file.sock", "unix:///file.sock", 7 * time.Second}},
		"env wins": {env: map[string]string{"CRI_CONFIG_FILE": file, "CONTAINER_RUNTIME_ENDPOINT": "/env.sock"},
			want: settings{"unix:///env.sock", "unix:///env.sock", 7 * time.Second}},
		"flag wins": {app: app{configFile: file, runtimeEndpoint: "/flag.sock", imageEndpoint: "/i.sock", timeout: time.Second},
			want: settings{"unix:///flag.sock", "unix:///i.sock", time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			tc.app.getenv = func(key string) string { return tc.env[key] }
			got, err := tc.app.settings()
			if err != nil || got != tc.want {
				t.Errorf("got %+v, %v, want %+v", got, err, tc.want)
			}
		})
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte("runtime-endpoint: unix:///x\ntimeout: 3"))
	f.Add([]byte("timeout: -1"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if c, err := parseConfig(content); err == nil && (c.Timeout < 0 || c.Timeout > 3600) {
			t.Errorf("%q gave %+v", content, c)
		}
	})
}

func FuzzReferences(f *testing.F) {
	f.Add("registry.test:5000/web", "a@sha256:b")
	f.Fuzz(func(t *testing.T, tag, digest string) {
		for _, r := range references(&runtimeapi.Image{RepoTags: []string{tag}, RepoDigests: []string{digest}}) {
			if strings.Contains(r.tag, "/") {
				t.Errorf("%q gave tag %q", tag, r.tag)
			}
		}
	})
}

func FuzzPreviousPath(f *testing.F) {
	f.Add("/var/log/pods/x/3.log")
	f.Fuzz(func(t *testing.T, path string) {
		if got, err := previousPath(path); err == nil && filepath.Dir(got) != filepath.Dir(path) {
			t.Errorf("%q gave %q", path, got)
		}
	})
}

func TestSize(t *testing.T) {
	for n, want := range map[uint64]string{0: "0B", 999: "999B", 1000: "1kB", 1234567: "1.23MB", 999999: "1MB", 1 << 63: "9.22EB"} {
		if got := size(n); got != want {
			t.Errorf("size(%d) = %q, want %q", n, got, want)
		}
	}
}
