package plugincmd

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/spf13/pflag"
)

// conform runs verify with files as arguments.
func (b *bench) conform(args ...string) (string, error) {
	b.t.Helper()
	var f conformity
	flags := pflag.NewFlagSet("verify", pflag.ContinueOnError)
	f.register(flags)
	if err := flags.Parse(args); err != nil {
		b.t.Fatal(err)
	}
	if err := f.check(flags.NArg()); err != nil {
		return "", err
	}
	var out bytes.Buffer
	c := &command{Deps: b.deps, lockFile: b.lock}
	err := c.conform(b.t.Context(), &printer{w: &out}, flags.Args(), &f)
	return out.String(), err
}

func (b *bench) conforms(args ...string) string {
	b.t.Helper()
	out, err := b.conform(args...)
	if err != nil {
		b.t.Fatalf("%v\n%s", err, out)
	}
	return out
}

func (b *bench) refuses(words []string, args ...string) {
	b.t.Helper()
	_, err := b.conform(args...)
	if err == nil {
		b.t.Fatalf("verify %v: no error", args)
	}
	wantWords(b.t, err.Error(), words...)
}

func TestVerifyWritesReport(t *testing.T) {
	b := newBench(t)
	file, dir := b.put("policy.wasm", policy()), t.TempDir()
	for _, name := range []string{"report.yaml", "report.json"} {
		path := filepath.Join(dir, name)
		wantWords(t, b.conforms(file, "--report", path, "--all"), "pass core/module", "n/a  core/cases", "core     ", "0 failed",
			"policy.wasm: conforms to ABI 1.", "report written to "+path)
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		report, err := conformance.ParseReport(text)
		if err != nil || !report.Conforms || report.Plugin.Name != "policy" {
			t.Errorf("%s: %+v, %v", name, report.Plugin, err)
		}
	}
}

// TestVerifyReportsFailure wants the report of a plugin that fails all the same,
// and an error.
func TestVerifyReportsFailure(t *testing.T) {
	b := newBench(t)
	report := filepath.Join(t.TempDir(), "report.yaml")
	file := b.put("trap.wasm", policy(func(g *guesttest.Guest) { g.Hooks[hostabi.ExportAdmissionValidate] = guesttest.Trap() }))
	out, err := b.conform(file, "--report", report)
	if err == nil {
		t.Fatal("a plugin that traps was accepted")
	}
	wantWords(t, err.Error(), "trap.wasm does not conform to the plugin ABI: core/hooks-return")
	wantWords(t, out, "FAIL core/hooks-return (core)", "the ABI demands: A hook returns", "crashed: wasm error: unreachable")
	text, err := os.ReadFile(report)
	if err != nil {
		t.Fatal(err)
	}
	if parsed, err := conformance.ParseReport(text); err != nil || parsed.Conforms {
		t.Errorf("conforms %t, %v", parsed.Conforms, err)
	}
}

func TestVerifyFlags(t *testing.T) {
	b := newBench(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	store, policyFile := b.put("store.wasm", storeWithConfig()), b.put("policy.wasm", policy())
	b.conforms(store, "--plugin-config", write("good.yaml", "retain: 7\n"))
	b.refuses([]string{"bad.yaml", "not a map"}, store, "--plugin-config", write("bad.yaml", "- retain\n"))
	b.conforms(policyFile, "--cases", write("cases.json", `[{"name":"starts","want":{"answer":"started"}}]`))
	b.refuses([]string{"core/cases"}, policyFile, "--cases", write("wrong.json", `[{"name":"does not","want":{"answer":"no-start"}}]`))
	b.refuses([]string{"odd.json", "nam"}, policyFile, "--cases", write("odd.json", `[{"nam":"x"}]`))
	b.refuses([]string{"--report is for one plugin, and 2 are given"}, policyFile, store, "--report", filepath.Join(dir, "r.yaml"))
	b.refuses([]string{"are for plugins given as files"}, "--extended")
}
