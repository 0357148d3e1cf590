package conformance

import (
	"strings"
	"testing"
	"time"
)

const junit = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="7">
  <testsuite name="Kubernetes e2e suite">
    <testcase name="[It] [sig-cli] Kubectl logs should print [Conformance]" status="passed" time="1.5"></testcase>
    <testcase name="[It] [sig-apps] Job should fail [Conformance]" status="failed" time="61">
      <failure message="" type="failed">[FAILED] timed out&#xA;more&#xA;</failure>
    </testcase>
    <testcase name="[It] [sig-apps] Job should panic [Conformance]" status="panicked" time="2"><error message="nil"></error></testcase>
    <testcase name="[It] [sig-apps] DaemonSet needs company [Conformance]" status="skipped" time="0">
      <skipped message="skipped - Requires at least 2 nodes (not 1)"></skipped>
    </testcase>
    <testcase name="[It] [sig-apps] DaemonSet wants company [Conformance]" status="failed" time="6">
      <failure message="">[FAILED] the suite needs a cluster with at least 2 nodes.</failure>
    </testcase>
    <testcase name="[It] [sig-architecture] should have company [Conformance]" status="failed" time="3">
      <failure message="">[FAILED] Conformance requires at least two nodes</failure>
    </testcase>
    <testcase name="[It] [sig-storage] left out" status="skipped" time="0"><skipped message="skipped"></skipped></testcase>
    <testcase name="[ReportBeforeSuite]" status="passed" time="0"></testcase>
    <testcase name="[SynchronizedBeforeSuite]" status="failed" time="9"><failure message="no node is ready"></failure></testcase>
  </testsuite>
</testsuites>`

func TestReadReport(t *testing.T) {
	all, err := readReport(strings.NewReader(junit))
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]outcome{}
	for _, o := range all {
		got[o.name] = o
	}
	for _, want := range []outcome{
		{"[sig-cli] Kubectl logs should print [Conformance]", passed, "", 1500 * time.Millisecond},
		{"[sig-apps] Job should fail [Conformance]", failed, "timed out\nmore", 61 * time.Second},
		{"[sig-apps] Job should panic [Conformance]", failed, "nil", 2 * time.Second},
		{"[sig-apps] DaemonSet needs company [Conformance]", refused, "Requires at least 2 nodes (not 1)", 0},
		{"[sig-apps] DaemonSet wants company [Conformance]", refused, "the suite needs a cluster with at least 2 nodes.", 6 * time.Second},
		{"[sig-architecture] should have company [Conformance]", refused, "Conformance requires at least two nodes", 3 * time.Second},
		{"[SynchronizedBeforeSuite]", failed, "no node is ready", 9 * time.Second},
	} {
		if got[want.name] != want {
			t.Errorf("got %+v, want %+v", got[want.name], want)
		}
	}
	if len(all) != 7 {
		t.Errorf("%d outcomes, want 7: %+v", len(all), all)
	}
}

func TestReadReportRefusesOtherFiles(t *testing.T) {
	if _, err := readReport(strings.NewReader("Ran 3 of 7 specs")); err == nil {
		t.Error("text was read as a report")
	}
}

func TestSummary(t *testing.T) {
	all, err := readReport(strings.NewReader(junit))
	if err != nil {
		t.Fatal(err)
	}
	page := summary("Score", all)
	for _, want := range []string{
		"# Score\n",
		"| sig-apps | 0 | 2 | 2 |\n",
		"| sig-cli | 1 | 0 | 0 |\n",
		"| suite | 0 | 1 | 0 |\n",
		"| all | 1 | 3 | 3 |\n",
		"- [sig-apps] Job should fail [Conformance] (61 s): timed out\n",
		"## refused\n\n- [sig-apps] DaemonSet needs company [Conformance] (0 s): Requires",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
