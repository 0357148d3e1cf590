package deployer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/crd"
)

func TestAddonName(t *testing.T) {
	for in, want := range map[string]string{"coredns.yaml": "coredns", "a/b.x.yaml": "b", "10-x.yml": "10-x"} {
		if got := addonName(in); got != want {
			t.Errorf("addonName(%q) = %q, want %q", in, got, want)
		}
	}
	// What cannot be a name itself gets a hash, so that it stays apart from others.
	for in, prefix := range map[string]string{"My_App.yaml": "my-app-", "ü.yaml": "file-", strings.Repeat("x", 64): "xxx"} {
		if got := addonName(in); !strings.HasPrefix(got, prefix) {
			t.Errorf("addonName(%q) = %q, want %q and a hash", in, got, prefix)
		}
	}
	if addonName("My_App.yaml") == addonName("my-App.yaml") {
		t.Error("two names became one")
	}
}

func FuzzAddonName(f *testing.F) {
	for _, seed := range []string{"coredns.yaml", ".x", "", "a/b/c", "A_B.yml", strings.Repeat("x", 300) + ".yaml"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rel string) {
		if errs := validation.IsDNS1123Label(addonName(rel)); len(errs) > 0 {
			t.Errorf("addonName(%q) = %q: %v", rel, addonName(rel), errs)
		}
	})
}

func FuzzDecodeObjects(f *testing.F) {
	for _, seed := range []string{
		`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`, `null`, `[]`, `{"kind":"List","items":[{}]}`, `{"metadata":7}`,
		`{"apiVersion":"a/b/c","kind":"X","metadata":{"name":"a","labels":{"a":1}}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		objects, err := decodeObjects([]json.RawMessage{raw})
		if err != nil {
			return
		}
		prepared, err := prepare(objects, "x", func(schema.GroupVersionKind) (bool, bool) { return true, true })
		if err != nil {
			return
		}
		for _, o := range prepared {
			if o.GetName() == "" || o.GetKind() == "" || o.GetLabels()[crd.AddonLabel] != "x" || o.GetNamespace() == "" {
				t.Errorf("prepared %v", o.Object)
			}
		}
	})
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte(`{"version":1,"files":{"coredns.yaml":{"sha256":"x","source":"bundle"}}}`))
	f.Add([]byte(`{"version":1,"files":{"../x":{}}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		record, err := decodeRecord(raw)
		if err != nil {
			return
		}
		for name := range record.Files {
			if !filepath.IsLocal(name) || strings.Contains(name, "/") {
				t.Errorf("record lets %q through", name)
			}
		}
	})
}

func TestListIsTakenApart(t *testing.T) {
	objects, err := decodeObjects([]json.RawMessage{[]byte(`{"apiVersion":"v1","kind":"List","items":[
		{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}},{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b"}}]}`)})
	if err != nil || len(objects) != 2 {
		t.Fatalf("got %d objects, %v", len(objects), err)
	}
}

func TestAssignObjects(t *testing.T) {
	x := objectKey{kind: "ConfigMap", namespace: "d", name: "x"}
	set := map[objectKey]bool{x: true}
	for name, tc := range map[string]struct {
		claims []claim
		want   string
	}{
		"first by source":            {[]claim{{addon: "b", source: "2", desires: set}, {addon: "a", source: "1", desires: set}}, "a"},
		"holder keeps":               {[]claim{{addon: "b", source: "2", desires: set, holds: set}, {addon: "a", source: "1", desires: set}}, "b"},
		"holder that dropped yields": {[]claim{{addon: "b", source: "2", holds: set}, {addon: "a", source: "1", desires: set}}, "a"},
		"frozen keeps":               {[]claim{{addon: "b", source: "2", holds: set, frozen: true}, {addon: "a", source: "1", desires: set}}, "b"},
		"gone yields":                {[]claim{{addon: "b", source: "2", holds: set, gone: true}, {addon: "a", source: "1", desires: set}}, "a"},
		"nobody":                     {[]claim{{addon: "b", source: "2", holds: set, gone: true}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := assignObjects(tc.claims)[x]; got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestPruneList(t *testing.T) {
	ref := func(group, kind, name string) crd.ObjectRef {
		return crd.ObjectRef{Group: group, Version: "v1", Kind: kind, Name: name}
	}
	inventory := []crd.ObjectRef{
		ref("", "Namespace", "kube-system"), ref("", "Namespace", "n"), ref("apps", "Deployment", "d"), ref("", "ConfigMap", "kept"),
		ref("", "ConfigMap", "moved"), ref("", "ConfigMap", "c"), ref("", "ConfigMap", "c"),
	}
	got := pruneList(inventory, []crd.ObjectRef{ref("", "ConfigMap", "kept")}, "a", map[objectKey]string{{kind: "ConfigMap", name: "moved"}: "b"})
	want := []crd.ObjectRef{ref("apps", "Deployment", "d"), ref("", "ConfigMap", "c"), ref("", "Namespace", "n")}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestScan(t *testing.T) {
	dir, target := t.TempDir(), filepath.Join(t.TempDir(), "real.yaml")
	begun, skew := time.Now(), time.Duration(0)
	s := newScanner(dir, func() time.Time { return time.Now().Add(skew) })
	write := func(path, content string) {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	scan := func() *snapshot {
		t.Helper()
		snap, err := s.scan(nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	write(filepath.Join(dir, "a.yaml"), "1")
	write(filepath.Join(dir, "sub/b.yaml"), "2")
	write(filepath.Join(dir, ".hidden.yaml"), "x")
	write(filepath.Join(dir, "a.yaml~"), "x")
	write(target, "linked")
	for link, to := range map[string]string{"link.yaml": target, "dangling.yaml": "nowhere", "dir": filepath.Dir(target)} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	if err := syscall.Mkfifo(filepath.Join(dir, "fifo.yaml"), 0o600); err != nil {
		t.Fatal(err)
	}

	running := s.now
	s.now = func() time.Time { return begun } // however long the writing took
	if snap := scan(); !snap.files["a.yaml"].pending || !snap.settle {
		t.Error("a file just written counts as settled")
	}
	s.now = running
	skew += settleTime
	snap := scan()
	want := map[string]string{"a.yaml": "1", "sub/b.yaml": "2", "link.yaml": "linked", "dangling.yaml": "", "dir/real.yaml": "linked", "fifo.yaml": ""}
	got := map[string]string{}
	for rel, f := range snap.files {
		got[rel] = f.content
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("files (-want +got):\n%s", diff)
	}
	if snap.files["dangling.yaml"].err == nil || snap.files["fifo.yaml"].err == nil {
		t.Error("a dangling link or a FIFO is no error")
	}
	if again := scan(); again.files["a.yaml"] != snap.files["a.yaml"] || !again.equal(snap) {
		t.Error("an unchanged file was taken for a new one")
	}

	write(target, "other!") // behind the link, of the same length
	skew += settleTime
	if got := scan().files["link.yaml"].content; got != "other!" {
		t.Errorf("link.yaml is %q after its target changed", got)
	}
	if err := os.Remove(filepath.Join(dir, "a.yaml")); err != nil {
		t.Fatal(err)
	}
	if f := scan().files["a.yaml"]; f == nil || !f.pending {
		t.Error("a file that went just now counts as gone")
	}
	skew += settleTime
	if f := scan().files["a.yaml"]; f != nil {
		t.Error("a file that went counts as there")
	}
	s.trust("a.yaml", digest([]byte("3")))
	write(filepath.Join(dir, "a.yaml"), "3")
	if f := scan().files["a.yaml"]; f.content != "3" {
		t.Error("a trusted file has to settle")
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := s.scan(nil, nil); err == nil {
		t.Error("a directory that is gone looks like an empty one")
	}
}

func TestDecidePackaged(t *testing.T) {
	for name, tc := range map[string]struct {
		want, disk, recorded string
		skipped, disabled    bool
		action               packagedAction
	}{
		"first start":                {want: "n", action: packagedWrite},
		"deleted by its owner":       {want: "n", recorded: "n", action: packagedWrite},
		"same":                       {want: "n", disk: "n", recorded: "n", action: packagedLeave},
		"same, record lost":          {want: "n", disk: "n", action: packagedRecorded},
		"update":                     {want: "n", disk: "o", recorded: "o", action: packagedWrite},
		"edited":                     {want: "n", disk: "e", recorded: "n", action: packagedLeave},
		"edited, then update":        {want: "n", disk: "e", recorded: "o", action: packagedKeep},
		"there before the first":     {want: "n", disk: "e", action: packagedKeep},
		"skipped":                    {want: "n", skipped: true, action: packagedLeave},
		"disabled":                   {want: "n", disk: "n", recorded: "n", disabled: true, action: packagedRemove},
		"disabled, old":              {want: "n", disk: "o", recorded: "o", disabled: true, action: packagedRemove},
		"disabled, edited":           {want: "n", disk: "e", recorded: "n", disabled: true, action: packagedForget},
		"disabled, never there":      {want: "n", disabled: true, action: packagedLeave},
		"no longer packaged":         {disk: "o", recorded: "o", action: packagedRemove},
		"no longer packaged, edited": {disk: "e", recorded: "o", action: packagedForget},
	} {
		t.Run(name, func(t *testing.T) {
			if got := decidePackaged(tc.want, tc.disk, tc.recorded, tc.skipped, tc.disabled); got != tc.action {
				t.Errorf("got %d, want %d", got, tc.action)
			}
		})
	}
}

func TestVariables(t *testing.T) {
	cfg := &config.Config{Options: config.Options{ClusterDNS: []string{"10.43.0.10", "fd00::a"}, ClusterDomain: "x.test"}}
	got := Variables(cfg)
	for name, want := range map[string]string{
		"CLUSTER_DNS": "10.43.0.10", "CLUSTER_DNS_LIST": "[10.43.0.10,fd00::a]",
		"CLUSTER_DNS_IPFAMILYPOLICY": "RequireDualStack", "CLUSTER_DOMAIN": "x.test", "SYSTEM_DEFAULT_REGISTRY": "",
	} {
		if v, ok := got[name]; !ok || v != want {
			t.Errorf("%s = %q, want %q", name, v, want)
		}
	}
}

func TestUnknownDisables(t *testing.T) {
	got := unknownDisables(disabledStems([]string{"coredns,traefik", "mine"}), map[string]bool{"coredns": true}, map[string]bool{"mine": true})
	if !slices.Equal(got, []string{"traefik"}) {
		t.Errorf("got %v", got)
	}
}

func FuzzClip(f *testing.F) {
	f.Add("häuser", 5)
	f.Fuzz(func(t *testing.T, s string, limit int) {
		if limit < 4 || limit > 1<<16 || !utf8.ValidString(s) {
			return
		}
		if got := clip(s, limit); len(got) > limit || !utf8.ValidString(got) {
			t.Errorf("clip(%q, %d) = %q", s, limit, got)
		}
	})
}
