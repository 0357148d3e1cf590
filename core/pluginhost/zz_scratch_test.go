package pluginhost
import ("testing";"time";"fmt";"strings";"runtime";"sort";"github.com/cleat-dev/cleat/hostabi")
func yamlTexts() map[string]string {
	const most = hostabi.MaxMessageBytes - 64
	fill := func(unit string) string { return strings.Repeat(unit, most/len(unit)) }
	long := strings.Repeat("x", 64<<10)
	return map[string]string{
		"a long text, by a thousand aliases": "a: &a \"" + long + "\"\nb: [" + strings.Repeat("*a,", 2000) + "1]\n",
		"a billion laughs": func() string {
			s := "a0: &a0 [l,l,l,l,l,l,l,l,l,l]\n"
			for i := 1; i < 10; i++ {
				s += fmt.Sprintf("a%d: &a%d [%s1]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9))
			}
			return s
		}(),
		"4 MiB of [":       fill("["),
		"4 MiB of {a: ":    fill("{a: "),
		"4 MiB of - ":      fill("- "),
		"4 MiB of - lines": fill("-\n"),
		"4 MiB of ? ":      fill("? "),
		"4 MiB of anchors": fill("- &a b\n"),
		"4 MiB of keys": func() string {
			var b strings.Builder
			for i := 0; b.Len() < most-16; i++ {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String()
		}(),
		"4 MiB of equal keys":       fill("a: 1\n"),
		"4 MiB of documents":        fill("---\n"),
		"4 MiB of full documents":   fill("---\na: 1\n"),
		"4 MiB of comments":         fill("# a\n"),
		"4 MiB of folded text":      "a: >\n" + fill("  b\n\n")[:most-16],
		"4 MiB of quoted lines":     "a: \"" + fill("\n ")[:most-16] + "\"",
		"4 MiB of spaces":           "a:" + fill(" ")[:most-16] + "b",
		"4 MiB of one plain scalar": "a: " + fill("b ")[:most-16],
		"4 MiB of merges":           "a: &a {b: 1, c: 2}\nd:\n" + fill("- {<<: *a}\n")[:most-40],
		"4 MiB of deep indents": func() string {
			var b strings.Builder
			for i := 0; b.Len() < most-8192; i++ {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(),
		"4 MiB of numbers in JSON": `{"a":[` + fill("1,")[:most-16] + `1]}`,
		"4 MiB of empty maps":      `{"a":[` + fill("{},")[:(most-16)/3*3] + `{}]}`,
		"4 MiB of timestamps":      fill("- 2001-01-01\n"),
		"4 MiB of octal":           fill("- 0777_7\n"),
		"4 MiB of binary":          "a: !!binary " + fill("QUJD")[:most-40],
		"a number of 4 MiB":        "a: " + fill("9")[:most-16],
		"a JSON number of 4 MiB":   `{"a":` + fill("9")[:most-16] + `}`,
		"a float of 4 MiB":         `{"a":0.` + fill("9")[:most-16] + `}`,
	}
}


func TestScratchYAML(t *testing.T) {
	all := yamlTexts()
	var names []string
	for n := range all { names = append(names, n) }
	sort.Strings(names)
	for _, n := range names {
		if n == "a billion laughs" || n == "a long text, by a thousand aliases" { continue }
		runtime.GC()
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		begin := time.Now()
		out, err := documents([]byte(all[n]))
		spent := time.Since(begin)
		runtime.ReadMemStats(&b)
		e := fmt.Sprint(err)
		fmt.Printf("%-40s %8s alloc %4d MiB out %d %s\n", n, spent.Round(time.Millisecond), (b.TotalAlloc-a.TotalAlloc)>>20, len(out), e[:min(len(e), 100)])
	}
}
