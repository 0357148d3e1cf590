package pluginhost

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
	"sigs.k8s.io/yaml"
)

// TestYAMLTooMuch has texts that would take long, or make much of little.
func TestYAMLTooMuch(t *testing.T) {
	tests := map[string]struct{ text, why string }{
		"lines":          {strings.Repeat("a: 1\n", 300_000), "lines, list items and commas"},
		"carriage ends":  {strings.Repeat("a: 1\r", 300_000), "lines, list items and commas"},
		"dashes":         {strings.Repeat("- - - -\n", 80_000), "lines, list items and commas"},
		"commas":         {"[" + strings.Repeat("1,", 300_000) + "1]", "lines, list items and commas"},
		"JSON":           {`{"a":[` + strings.Repeat("1,", 300_000) + "1]}", "lines, list items and commas"},
		"long alias":     {"a: &a \"" + strings.Repeat("x", 64<<10) + "\"\nb: [" + strings.Repeat("*a,", 2000) + "1]\n", "once aliases are followed"},
		"long key":       {"a: &a {\"" + strings.Repeat("x", 500) + "\": 1}\nb: [" + strings.Repeat("*a,", 20_000) + "1]\n", "once aliases are followed"},
		"many documents": {strings.Repeat("a: &a ["+strings.Repeat("1,", 1000)+"1]\nb: [*a,*a,*a,*a,*a]\n---\n", 100), "once aliases are followed"},
		"depth":          {strings.Repeat("[", 65) + strings.Repeat("]", 65), "nested deeper than 64"},
		"same in JSON":   {"1: a\n\"1\": b\n", `key "1" appears twice`},
	}
	for name, tt := range tests {
		_, err := documents([]byte(tt.text), maxParts, time.Now().Add(time.Minute))
		if err == nil || !strings.Contains(err.Error(), tt.why) {
			t.Errorf("%s: got %v, want %q", name, err, tt.why)
		}
	}
	if _, err := documents([]byte("a: 1\n"), maxParts, time.Now()); err == nil || !strings.Contains(err.Error(), errSlow.Error()) {
		t.Errorf("at the deadline: got %v", err)
	}
	const deepest = hostabi.MaxJSONDepth
	if _, err := documents([]byte(strings.Repeat("[", deepest-1)+strings.Repeat("]", deepest-1)), maxParts, time.Now().Add(time.Minute)); err != nil {
		t.Error(err)
	}
}

// TestYAMLOfAdmission reads less where a request waits.
func TestYAMLOfAdmission(t *testing.T) {
	render := guesttest.HostFunction(hostabi.ModuleRender, "render_yaml")
	ask := func(size int32) []byte {
		return guesttest.Code(guesttest.I32(0), guesttest.I32(size), guesttest.I32(0), guesttest.I32(0), guesttest.Call(0))
	}
	for size, want := range map[int32]string{hostabi.MaxValueBytes + 1: "E2BIG", hostabi.MaxValueBytes: "EINVAL"} {
		g := hook("yaml", ask(size), render) // which has less memory than that
		g.Manifest.Capabilities = append(g.Manifest.Capabilities, hostabi.ModuleRender)
		result, err := lockOf(t, g.Wasm()).open(t).Validate(t.Context(), pod())
		if err != nil || !strings.Contains(result.Message, want) {
			t.Errorf("%d bytes: %v, %+v, want %s", size, err, result, want)
		}
	}
}

// usual is what documents does for one document, by way of sigs.k8s.io/yaml.
func usual(doc []byte) ([]byte, error) {
	text, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, err
	}
	return hostabi.Canonical(text)
}

// FuzzYAMLLikeOthers holds the parser against the one that kubectl uses.
func FuzzYAMLLikeOthers(f *testing.F) {
	for _, text := range []string{
		"a: 1", "", "null", "~", "- 1\n- two\n- 3.5\n- yes\n- Off\n- 0x1f\n- 0o17\n- 017\n- 1_000\n- 12:30:45\n- 2001-01-01\n- .5\n- -0.0\n- 1e3\n- 1e400\n",
		"- .nan\n", "- .inf\n", "- 123456789012345678\n- 12345678901234567890\n- 123456789012345678901234567890\n- 1.2345678901234567e17\n- 1e20\n- 1e21\n",
		"1: a\n2.5: b\ntrue: c\nyes: d\n", "1e3: a\n.inf: b\n.nan: c\n", "? [a]\n: b\n", "null: a\n", "a: !!binary aGVsbG8=\n", "a: !!binary /w==\n", "!!binary /w==: a\n",
		"a: !!timestamp 2001-01-01\n", "a: !!str 1\nb: !!int \"1\"\nc: !!float 1\n", "a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n",
		"a: |\n  b\n  c\n\nd: >-\n  e\n  f\n", "a: \"\\x1b\\u2028\\ud83d\"\nb: <&>\n", "a: 1\na: 2\n", "{a: b} c", "a\nb: c", "%YAML 1.1\n---\na: b\n", "\ta: b", "a: [", "a: *b", "&a [*a]",
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		want, wantErr := usual(doc)
		left := maxValues
		value, err := parseYAML(doc, time.Now().Add(time.Minute), &left)
		var got []byte
		if err == nil {
			got, err = hostabi.AppendJSON(nil, value)
		}
		if err != nil && wantErr == nil && strings.Contains(err.Error(), "appears twice") {
			return // it takes either of the two
		}
		if (err == nil) != (wantErr == nil) || !bytes.Equal(got, want) {
			t.Errorf("%q: got %s, %v, want %s, %v", doc, got, err, want, wantErr)
		}
	})
}

// TestYAMLOfUsualSize reads a stream of a thousand manifests.
func TestYAMLOfUsualSize(t *testing.T) {
	var b strings.Builder
	for i := range 1000 {
		fmt.Fprintf(&b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: c%d\n  labels: {app: web, tier: \"1\"}\ndata:\n  a.json: |\n", i)
		for j := range 40 {
			fmt.Fprintf(&b, "    {\"panel\": %d, \"title\": \"requests by status\", \"span\": 12},\n", j)
		}
	}
	text := b.String()
	out, err := documents([]byte(text), maxParts, time.Now().Add(time.Minute))
	if err != nil || bytes.Count(out, []byte(`"ConfigMap"`)) != 1000 {
		t.Errorf("%d bytes: %d bytes, %v", len(text), len(out), err)
	}
}
