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
	jsonish := func(unit string) string { return "a: |\n" + strings.Repeat("  "+unit+"\n", (4<<20-100)/(len(unit)+3)) }
	all["A json in block"] = jsonish(`"datasource": { "type": "prometheus", "uid": "x" },`)
	all["B 240k parts keys"] = func() string { var b strings.Builder; for i := 0; i < 249000; i++ { fmt.Fprintf(&b, "key%d: v%d\n", i, i) }; return b.String() }()
	all["B 240k parts flow"] = "a: [" + strings.Repeat("{a: 1},", 124000) + "]"
	all["B 240k parts flow pairs"] = "a: [" + strings.Repeat("a: 1,", 249000) + "]"
	all["B 240k parts dashes"] = strings.Repeat("- - - -\n", 50000)
	all["B 240k parts colons"] = strings.Repeat("a: b\n", 1) + "b: {" + func() string { var b strings.Builder; for i := 0; i < 249000; i++ { fmt.Fprintf(&b, "k%d: 1,", i) }; return b.String() }() + "}"
	all["B list of maps"] = strings.Repeat("- a: 1\n  b: 2\n  c: 3\n", 62000)
	all["C maps by alias"] = func() string { return "x: &x [" + strings.Repeat("{a: 1},", 20) + "]\n" + "y: [" + strings.Repeat("*x,", 12000) + "]\n" }()
	all["D colon colon"] = "a: " + strings.Repeat(": ", 2000000)
	all["D tags"] = strings.Repeat("- !!str a\n", 249000)
	all["D anchors+alias"] = strings.Repeat("- &a b\n- *a\n", 120000)
	all["D quotes"] = strings.Repeat("- \"\"\n", 249000)
	all["D flow nest"] = strings.Repeat("- [[[[]]]]\n", 50000)
	all["D escapes"] = "a: \"" + strings.Repeat("\\0", 2000000) + "\""
	all["D long key"] = strings.Repeat("x", 4000000) + ": 1"
	all["D comment lines"] = "a: b" + strings.Repeat(" #\n", 1000000)
	all["D crlf"] = strings.Repeat("\r", 4000000)
	all["D nel"] = strings.Repeat("\u0085", 2000000)
	all["D nel keys"] = strings.Repeat("a: 1\u0085", 500000)
	all["D cr keys"] = func() string { var b strings.Builder; for i := 0; b.Len() < 4<<20-100; i++ { fmt.Fprintf(&b, "k%d: 1\r", i) }; return b.String() }()
	all["D tag dir"] = strings.Repeat("%TAG ! x\n", 400000)
	all["D percent dirs"] = func() string { var b strings.Builder; for i := 0; b.Len() < 4<<20-100; i++ { fmt.Fprintf(&b, "%%TAG !k%d! x\n", i) }; return b.String()+"---\n" }()
	all["D many simple keys open"] = strings.Repeat("? a\n", 240000)
	all["D nested merge"] = "a: &a {b: 1}\nc:\n" + strings.Repeat("- {<<: *a}\n", 90000)
	all["D json dup"] = "{" + strings.Repeat("\"a\":1,", 240000) + "\"b\":1}"
	all["D json deep"] = strings.Repeat("{\"a\":", 600000)
	var names []string
	for n := range all { names = append(names, n) }
	sort.Strings(names)
	for _, n := range names {
		runtime.GC()
		var a, b runtime.MemStats
		runtime.ReadMemStats(&a)
		begin := time.Now()
		out, err := documents([]byte(all[n]), time.Now().Add(time.Hour))
		spent := time.Since(begin)
		runtime.ReadMemStats(&b)
		e := fmt.Sprint(err)
		fmt.Printf("%-40s %8s alloc %4d MiB out %d %s\n", n, spent.Round(time.Millisecond), (b.TotalAlloc-a.TotalAlloc)>>20, len(out), e[:min(len(e), 100)])
	}
}
