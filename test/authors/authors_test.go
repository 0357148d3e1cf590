package authors

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// patience is for a machine that does other work too.
const patience = 8 * time.Minute

// languages are those with an SDK beside Go's, which has tests of its own.
func languages() []string { return []string{"c", "rust", "assemblyscript"} }

// run executes a command in dir, with bin/cleat on the path and without what
// the Go modules of this repository need.
func run(t *testing.T, dir string, args ...string) string {
	t.Helper()
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	// env, so that the command is looked up on the path given here.
	cmd := exec.CommandContext(ctx, "env", args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+bin+":"+os.Getenv("PATH"), "GOFLAGS=", "GOPROXY=off", "MAKEFLAGS=")
	cmd.WaitDelay = 5 * time.Second
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%s in %s: %v\n%s", strings.Join(args, " "), dir, err, out)
	}
	return string(out)
}

// testSDK is the command that runs the tests of an SDK.
func testSDK(t *testing.T, language string) []string {
	if language == "assemblyscript" {
		return []string{"npm", "test"}
	}
	return []string{"make", "test", "OUT=" + t.TempDir()}
}

// TestSDKs runs the native tests of the SDKs and of the golden guests.
func TestSDKs(t *testing.T) {
	for _, language := range languages() {
		sdk, err := filepath.Abs("../../pluginsdk/" + language)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(language, func(t *testing.T) {
			t.Run("sdk", func(t *testing.T) { run(t, sdk, testSDK(t, language)...) })
			for _, guest := range []string{"golden-admission", "golden-deployer"} {
				t.Run(guest, func(t *testing.T) {
					run(t, "../../conformance/golden/"+language+"/"+guest, "make", "test", "SDK="+sdk, "OUT="+filepath.Join(t.TempDir(), guest+".wasm"))
				})
			}
		})
	}
}

// TestNew begins a plugin for each point in each language, and takes it to where
// it conforms.
func TestNew(t *testing.T) {
	templates, err := os.ReadDir("../../core/cli/plugincmd/templates/languages")
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range templates {
		language := entry.Name()
		for _, point := range []string{"admission", "deployer", "cni", "datastore"} {
			t.Run(language+"/"+point, func(t *testing.T) {
				dir := t.TempDir()
				run(t, dir, "cleat", "plugin", "new", "my-plugin", "--lang", language, "--point", point)
				project := filepath.Join(dir, "my-plugin")
				run(t, project, "make", "test")
				run(t, project, "make")
				if out := run(t, project, "make", "verify"); !strings.Contains(out, "conforms to ABI") {
					t.Errorf("verify printed:\n%s", out)
				}
			})
		}
	}
}
