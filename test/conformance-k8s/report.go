package conformance

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// outcome is what became of one spec.
type outcome struct {
	name    string
	verdict verdict
	why     string // of a failure, or of a spec that would not run here
	took    time.Duration
}

type verdict string

const (
	passed  verdict = "passed"
	failed  verdict = "failed"
	refused verdict = "refused" // the spec itself found that the cluster lacks something
)

// moreNodes is what a spec says that needs company; some skip themselves, some fail.
var moreNodes = regexp.MustCompile(`at least (\d+|two) nodes`)

// A spec's name begins with the group of Kubernetes that owns it.
var sig = regexp.MustCompile(`\[(sig-[a-z-]+)\]`)

func (o outcome) group() string {
	if found := sig.FindStringSubmatch(o.name); found != nil {
		return found[1]
	}
	return "suite" // what it does before and after all specs
}

// notRun is what ginkgo says of a spec that the focus leaves out; one that skips
// itself adds a reason.
const notRun = "skipped"

// readReport reads ginkgo's report, which is JUnit's XML. Specs that were left out
// are not in the result.
func readReport(r io.Reader) ([]outcome, error) {
	type note struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	failure := func(n *note) string {
		return strings.TrimSpace(strings.TrimPrefix(cmp.Or(n.Message, n.Text), "[FAILED]"))
	}
	var report struct {
		Suites []struct {
			Cases []struct {
				Name    string  `xml:"name,attr"`
				Seconds float64 `xml:"time,attr"`
				Failure *note   `xml:"failure"`
				Error   *note   `xml:"error"`
				Skipped *note   `xml:"skipped"`
			} `xml:"testcase"`
		} `xml:"testsuite"`
	}
	if err := xml.NewDecoder(r).Decode(&report); err != nil {
		return nil, fmt.Errorf("read the report: %w", err)
	}
	var all []outcome
	for _, suite := range report.Suites {
		for _, c := range suite.Cases {
			name, isSpec := strings.CutPrefix(c.Name, "[It] ")
			o := outcome{name: name, verdict: passed, took: time.Duration(c.Seconds * float64(time.Second))}
			switch {
			case c.Failure != nil:
				o.verdict, o.why = failed, failure(c.Failure)
			case c.Error != nil:
				o.verdict, o.why = failed, failure(c.Error)
			case !isSpec || c.Skipped != nil && c.Skipped.Message == notRun:
				continue
			case c.Skipped != nil:
				o.verdict, o.why = refused, strings.TrimPrefix(c.Skipped.Message, notRun+" - ")
			}
			if o.verdict == failed && moreNodes.MatchString(o.why) {
				o.verdict = refused
			}
			all = append(all, o)
		}
	}
	slices.SortFunc(all, func(a, b outcome) int { return cmp.Compare(a.name, b.name) })
	return all, nil
}

// tally counts the outcomes of each group.
func tally(all []outcome) map[string]map[verdict]int {
	counts := map[string]map[verdict]int{}
	for _, o := range all {
		if counts[o.group()] == nil {
			counts[o.group()] = map[verdict]int{}
		}
		counts[o.group()][o.verdict]++
	}
	return counts
}

// summary is a page of Markdown: the score of each group, and what did not pass.
func summary(title string, all []outcome) string {
	var page strings.Builder
	fmt.Fprintf(&page, "# %s\n\n| group | passed | failed | refused |\n|---|---|---|---|\n", title)
	counts := tally(all)
	total := map[verdict]int{}
	for _, group := range slices.Sorted(maps.Keys(counts)) {
		c := counts[group]
		fmt.Fprintf(&page, "| %s | %d | %d | %d |\n", group, c[passed], c[failed], c[refused])
		for v, n := range c {
			total[v] += n
		}
	}
	fmt.Fprintf(&page, "| all | %d | %d | %d |\n", total[passed], total[failed], total[refused])
	for _, v := range []verdict{failed, refused} {
		if total[v] == 0 {
			continue
		}
		fmt.Fprintf(&page, "\n## %s\n\n", v)
		for _, o := range all {
			if o.verdict == v {
				first, _, _ := strings.Cut(o.why, "\n")
				fmt.Fprintf(&page, "- %s (%.0f s): %s\n", o.name, o.took.Seconds(), first)
			}
		}
	}
	slowest := slices.Clone(all)
	slices.SortFunc(slowest, func(a, b outcome) int { return cmp.Compare(b.took, a.took) })
	fmt.Fprintf(&page, "\n## slowest\n\n")
	for _, o := range slowest[:min(len(slowest), 15)] {
		fmt.Fprintf(&page, "- %.0f s %s\n", o.took.Seconds(), o.name)
	}
	return page.String()
}
