package render

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

const bombHead = "apiVersion: v2\nname: bomb\nversion: 1.0.0\n"

// Templates that would take the server with them, if it rendered them itself.
func TestTemplateBombs(t *testing.T) {
	for name, tc := range map[string]struct {
		files map[string]string
		time  time.Duration
		why   string
	}{
		"loop": {map[string]string{"templates/a.yaml": strings.Repeat("{{ range until 100000 }}", 4) + strings.Repeat("{{ end }}", 4)},
			2 * time.Second, "was not done after"},
		"doubling": {map[string]string{"templates/a.yaml": `{{ $x := "0123456789" }}{{ range until 60 }}{{ $x = printf "%s%s" $x $x }}{{ end }}`},
			time.Minute, "needs more than 512 MiB of memory"},
		"repeat": {map[string]string{"templates/a.yaml": `{{ repeat 4000000000 "x" }}`},
			time.Minute, "needs more than 512 MiB of memory"},
		"list": {map[string]string{"templates/a.yaml": `{{ len (until 4000000000) }}`},
			time.Minute, "needs more than 512 MiB of memory"},
		"graph": {map[string]string{"templates/a.yaml": `{{ $d := dict "a" "b" }}{{ range until 60 }}{{ $d = dict "a" $d "b" $d }}{{ end }}{{ toJson $d }}`},
			2 * time.Second, "rendering was "},
		"recursion": {map[string]string{"templates/a.yaml": `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`},
			time.Minute, "exceeded maximum template depth"},
		"include": {map[string]string{"templates/a.yaml": `{{ define "a" }}{{ include "a" . }}{{ end }}{{ include "a" . }}`},
			time.Minute, "nested reference name"},
		"tpl": {map[string]string{"templates/a.yaml": `{{ tpl .Values.t . }}`, "values.yaml": `t: "{{ tpl .Values.t . }}"`},
			5 * time.Second, "chart: "},
		"regexp": {map[string]string{"templates/a.yaml": `{{ regexReplaceAll "a{1000}{1000}{1000}" "x" "y" }}`},
			time.Minute, "regexp"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.files["Chart.yaml"] = bombHead
			// What ends by memory has time enough on a busy machine too, and what ends by
			// time ends, be it late.
			ctx, cancel := context.WithTimeout(t.Context(), tc.time)
			defer cancel()
			begin := time.Now()
			_, err := newTestRenderer().Helm(ctx, tree(tc.files), helmRequest(""))
			if err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
			if spent := time.Since(begin); spent > tc.time+time.Minute {
				t.Errorf("it took %v", spent)
			}
		})
	}
	// The renderer is none the worse for it.
	result, err := newTestRenderer().Helm(t.Context(), tree(map[string]string{"Chart.yaml": bombHead, "templates/a.yaml": configMap("a")}), helmRequest(""))
	if err != nil || len(result.Objects) != 1 {
		t.Errorf("got %v, %v", result, err)
	}
}

func TestHostileArchives(t *testing.T) {
	chart := entry{name: "x/Chart.yaml", content: "apiVersion: v2\nname: x\nversion: 1.0.0\n"}
	zeros := strings.Repeat("\x00", maxFileBytes)
	var large []entry
	for i := range 8 {
		large = append(large, entry{name: fmt.Sprintf("x/f%d", i), content: zeros})
	}
	var many []entry
	for i := range maxChartFiles + 1 {
		many = append(many, entry{name: fmt.Sprintf("x/f%d", i)})
	}
	nest := pack(t, chart)
	for range maxNested + 2 {
		nest = pack(t, chart, entry{name: "x/charts/x.tgz", content: string(nest)})
	}
	half := pack(t, append([]entry{chart}, large[:4]...)...)
	for name, tc := range map[string]struct {
		archive []byte
		why     string
	}{
		"not packed":   {[]byte("hello"), "not a .tgz"},
		"empty":        {nil, "not a .tgz"},
		"no files":     {pack(t), "archive is empty"},
		"cut":          {pack(t, chart)[:60], "unexpected EOF"},
		"bomb":         {pack(t, append([]entry{chart}, large...)...), "larger than 32 MiB unpacked"},
		"large file":   {pack(t, chart, entry{name: "x/a", content: zeros + "x"}), "at most 5242880"},
		"many":         {pack(t, many...), "more than 8192 files"},
		"nested":       {nest, "nested deeper than 8"},
		"nested bombs": {pack(t, chart, entry{name: "x/charts/a.tgz", content: string(half)}, entry{name: "x/charts/b.tgz", content: string(half)}), "larger than 32 MiB unpacked"},
		"headers":      {headerBomb(t), "larger than 32 MiB unpacked"},
		"parent":       {pack(t, chart, entry{name: "x/../../etc/passwd"}), "no path below its directory"},
		"parent first": {pack(t, chart, entry{name: "../x/a"}), "no path below its directory"},
		"absolute":     {pack(t, chart, entry{name: "/etc/passwd"}), "no path below its directory"},
		"backslash":    {pack(t, chart, entry{name: `x\..\a`}), "no path below its directory"},
		"link":         {pack(t, chart, entry{name: "x/values.yaml", kind: tar.TypeSymlink, link: "/etc/passwd"}), "link or a device"},
		"hard link":    {pack(t, chart, entry{name: "x/values.yaml", kind: tar.TypeLink, link: "x/Chart.yaml"}), "link or a device"},
		"device":       {pack(t, chart, entry{name: "x/a", kind: tar.TypeChar}), "link or a device"},
		"no directory": {pack(t, entry{name: "Chart.yaml", content: chart.content}), "is not in a directory"},
		"twice":        {pack(t, chart, chart), "in the archive twice"},
		"subchart":     {pack(t, chart, entry{name: "x/charts/sub/Chart.yaml", content: "a: ["}), "subchart sub"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newTestRenderer().Helm(t.Context(), tree(map[string]string{"x.tgz": string(tc.archive)}), helmRequest(""))
			if err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
}

// headerBomb is a small archive of directories whose extended headers are large.
func headerBomb(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	comment := strings.Repeat("x", 1<<20-64)
	for i := range 60 {
		h := &tar.Header{Name: fmt.Sprintf("x/%d/", i), Typeflag: tar.TypeDir, PAXRecords: map[string]string{"A.b": comment}}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestTreeBounds(t *testing.T) {
	big := strings.Repeat("x", 4<<20)
	files := map[string]string{"Chart.yaml": bombHead, "a": big, "b": big, "c": big, "d": big}
	if _, err := newTestRenderer().Helm(t.Context(), tree(files), helmRequest("")); err == nil || !strings.Contains(err.Error(), "16777216 bytes together") {
		t.Errorf("got %v", err)
	}
	huge := `{"a": "` + strings.Repeat("x", hostabi.MaxMessageBytes) + `"}`
	files = map[string]string{"Chart.yaml": bombHead, "templates/a.yaml": configMap("a") + "\ndata: {a: {{ .Values.a }}}"}
	if _, err := newTestRenderer().Helm(t.Context(), tree(files), helmRequest(huge)); err == nil || !strings.Contains(err.Error(), "renders to more than") {
		t.Errorf("got %v", err)
	}
}

// The test binary runs this test again, confined, and tries things.
func TestChildIsConfined(t *testing.T) {
	if os.Getenv("CLEAT_TEST_CONFINED") != "" {
		if err := confine(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.ReadFile("/etc/passwd"); err == nil {
			t.Error("a file was opened")
		}
		if err := exec.Command("/bin/true").Run(); err == nil {
			t.Error("a program was run")
		}
		if _, _, err := os.Pipe(); err == nil {
			t.Error("a pipe was made")
		}
		return
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestChildIsConfined$")
	cmd.Env = append(childEnvironment(), "CLEAT_TEST_CONFINED=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v: %s", err, out)
	}
}

// Whatever the child does, there is an error and no answer.
func TestStrangeChildren(t *testing.T) {
	for name, tc := range map[string]struct {
		command []string
		why     string
	}{
		"not there": {[]string{"/nonexistent"}, "no such file"},
		"silent":    {[]string{"/bin/true"}, "decode the answer"},
		"failing":   {[]string{"/bin/sh", "-c", "echo first >&2; echo why >&2; exit 3"}, "exit status 3: why"},
		"killed":    {[]string{"/bin/sh", "-c", "kill -9 $$"}, "ended from outside (killed)"},
		"endless":   {[]string{"/bin/sh", "-c", "while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done"}, "renders to more than"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(Options{Command: tc.command, KubeVersion: "v1.36.3"})
			_, err := r.Kustomize(t.Context(), tree(map[string]string{"a": ""}), hostabi.KustomizeRequest{})
			if err == nil || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want %q", err, tc.why)
			}
		})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	r := New(Options{Command: []string{"/bin/sleep", "100"}, KubeVersion: "v1.36.3"})
	if _, err := r.Kustomize(ctx, tree(map[string]string{"a": ""}), hostabi.KustomizeRequest{}); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(pack(f, entry{name: "x/Chart.yaml", content: bombHead}))
	f.Add(pack(f, entry{name: "x/charts/y.tgz", content: "x"}))
	f.Add(pack(f, entry{name: "x/../y", kind: tar.TypeSymlink, link: "z"}))
	f.Fuzz(func(t *testing.T, packed []byte) {
		files, err := (&unpacker{}).unpack(packed, 0)
		if err != nil {
			return
		}
		for name := range files {
			if _, err := entryName("x/" + name); err != nil {
				t.Errorf("unpacked %q", name)
			}
		}
	})
}

func FuzzHelm(f *testing.F) {
	f.Add(bombHead, "a: 1", configMap("{{ .Values.a }}"), `{"a": 2}`)
	f.Add(bombHead+"dependencies: [{name: y}]", "a: {b: c}", "{{ include \"x\" . }}", `null`)
	f.Fuzz(func(t *testing.T, head, values, template, given string) {
		if strings.Contains(template, "{{") && !strings.HasPrefix(template, "apiVersion") {
			return // templates can do what a test should not wait for
		}
		files := map[string][]byte{"Chart.yaml": []byte(head), "values.yaml": []byte(values), "crds/a.yaml": []byte(template)}
		_, _ = helmChart(files, helmRequest(given), "v1.36.3") // it returns
	})
}
