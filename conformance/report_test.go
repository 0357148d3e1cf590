package conformance_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the generated table of checks")

func reportOf(t *testing.T, wasm []byte, opts ...conformance.Option) conformance.Report {
	t.Helper()
	report, err := conformance.Check(t.Context(), wasm, append(opts, conformance.WithHostVersion("v1.2.3"))...)
	if err != nil {
		t.Fatal(err)
	}
	return report
}

func yamlOf(t *testing.T, r conformance.Report) []byte {
	t.Helper()
	text, err := r.YAML()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestReportIsReproducible wants equal bytes for equal plugins, good and wrong.
func TestReportIsReproducible(t *testing.T) {
	for name, wasm := range map[string][]byte{
		"good": admission(admissionParts{}).Wasm(), "deployer": deployer(nil).Wasm(),
		"random": wrongAdmissions()["admission/deterministic"], "late": wrongHooks()["core/deadline"], "broken": []byte("\x00asm"),
	} {
		t.Run(name, func(t *testing.T) {
			first := yamlOf(t, reportOf(t, wasm))
			if diff := cmp.Diff(string(first), string(yamlOf(t, reportOf(t, wasm)))); diff != "" {
				t.Errorf("the second report differs (-first +second):\n%s", diff)
			}
			host, err := os.Hostname()
			if err != nil {
				t.Fatal(err)
			}
			for _, leak := range []string{os.TempDir() + "/", "cleat-conformance-", host + ":"} {
				if bytes.Contains(first, []byte(leak)) {
					t.Errorf("the report has %q in it", leak)
				}
			}
		})
	}
}

func TestReportReadsBack(t *testing.T) {
	config := conformance.WithConfig(map[string]any{"mode": "x"})
	g := admission(admissionParts{})
	g.Manifest.ConfigSchema = schema(`"strict"`)
	report := reportOf(t, g.Wasm(), config)
	text := yamlOf(t, report)
	asJSON, err := report.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for _, form := range [][]byte{text, asJSON} {
		parsed, err := conformance.ParseReport(form)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(report, parsed); diff != "" {
			t.Errorf("read back (-wrote +read):\n%s", diff)
		}
	}
	sum := sha256.Sum256(text)
	if digest, err := report.SHA256(); err != nil || digest != hex.EncodeToString(sum[:]) {
		t.Errorf("digest %s, %v", digest, err)
	}
	if report.Input == "" || report.Input == reportOf(t, g.Wasm(), conformance.WithConfig(map[string]any{"mode": "y"})).Input {
		t.Errorf("input digest %q", report.Input)
	}
	if p := report.Plugin; p.Name != "guest" || p.Version != "1.0.0" || p.ABI != "1.0" || len(p.SHA256) != 64 || report.Host.Version != "v1.2.3" {
		t.Errorf("plugin %+v, host %+v", p, report.Host)
	}
}

func TestParseReportRefuses(t *testing.T) {
	good := string(yamlOf(t, reportOf(t, wrongHooks()["core/hooks-return"])))
	for name, text := range map[string]string{
		"nothing":           "",
		"another format":    strings.Replace(good, "conformance/v1", "conformance/v9", 1),
		"a brighter claim":  strings.Replace(good, "conforms: false", "conforms: true", 1),
		"a brighter result": strings.Replace(good, "result: fail", "result: pass", 1),
		"an unknown result": strings.Replace(good, "result: not-applicable", "result: skipped", 1),
		"an unknown field":  good + "more: 1\n",
		"a field twice":     good + "conforms: false\n",
		"too much":          good + strings.Repeat("#", conformance.MaxReportBytes),
	} {
		if _, err := conformance.ParseReport([]byte(text)); err == nil || !strings.HasPrefix(err.Error(), "conformance report: ") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSections holds every check to a heading of the ABI's document.
func TestSections(t *testing.T) {
	text, err := os.ReadFile("../hostabi/ABI.md")
	if err != nil {
		t.Fatal(err)
	}
	var headings []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "#") {
			headings = append(headings, strings.TrimRight(strings.TrimLeft(line, "# `"), "`\n")+"(")
		}
	}
	for _, c := range conformance.Checks() {
		found := false
		for _, h := range headings {
			found = found || strings.HasPrefix(h, c.Section+"(") || c.Section == "The plugin ABI" && strings.HasPrefix(h, c.Section)
		}
		if !found {
			t.Errorf("%s: ABI.md has no heading %q", c.ID, c.Section)
		}
		if !strings.HasSuffix(c.Demand, ".") {
			t.Errorf("%s: the demand %q is no sentence", c.ID, c.Demand)
		}
	}
}

const (
	readme      = "README.md"
	tableBegins = "<!-- Generated from the checks; go test ./conformance -run TestReadme -update writes it. -->\n"
	tableEnds   = "<!-- End of what is generated. -->\n"
)

// TestReadme holds the table in the README to the checks.
func TestReadme(t *testing.T) {
	content, err := os.ReadFile(readme)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(content), tableBegins)
	old, after, closed := strings.Cut(rest, tableEnds)
	if !found || !closed {
		t.Fatalf("%s has not the lines around the table", readme)
	}
	want := "| check | profile | demand | section of ABI.md |\n|---|---|---|---|\n"
	for _, c := range conformance.Checks() {
		want += fmt.Sprintf("| `%s` | %s | %s | %s |\n", c.ID, c.Profile, c.Demand, c.Section)
	}
	if old == want {
		return
	}
	if !*update {
		t.Fatalf("%s has another table than the code; run go test ./conformance -run TestReadme -update", readme)
	}
	if err := os.WriteFile(readme, []byte(before+tableBegins+want+tableEnds+after), 0o644); err != nil {
		t.Fatal(err)
	}
}

func FuzzParseReport(f *testing.F) {
	f.Add([]byte("format: cleat.dev/conformance/v1\nchecks: []\n"))
	f.Add([]byte(`{"format":"cleat.dev/conformance/v1","conforms":true,"core":{"passed":1,"failed":0,"not_applicable":0},` +
		`"checks":[{"id":"a","profile":"core","result":"pass"}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		report, err := conformance.ParseReport(text)
		if err != nil {
			return
		}
		again, err := report.YAML()
		if err != nil {
			t.Fatal(err)
		}
		parsed, err := conformance.ParseReport(again)
		if err != nil {
			t.Fatalf("%v\n%s", err, again)
		}
		if diff := cmp.Diff(yamlOf(t, report), yamlOf(t, parsed)); diff != "" {
			t.Error(diff)
		}
	})
}

func FuzzParseCases(f *testing.F) {
	f.Add([]byte(`[{"name":"a","validate":{"operation":"CREATE","version":"v1","kind":"Pod","resource":"pods","object":{"a":1}},"want":{"answer":"allow"}}]`))
	f.Add([]byte(`[{"name":"a","render":{"file":"a.yaml"},"want":{"answer":"decided","plan":{"objects":[9007199254740993]}}}]`))
	f.Fuzz(func(t *testing.T, text []byte) {
		cases, err := conformance.ParseCases(text)
		if err != nil {
			return
		}
		for _, c := range cases {
			if c.Name == "" || c.Want.Answer == "" {
				t.Errorf("accepted %+v", c)
			}
		}
	})
}
