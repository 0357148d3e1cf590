package pluginhost

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
)

func TestMetrics(t *testing.T) {
	h := lockOf(t, denier("1.0.0", 401).Wasm(), hook("crashes", guesttest.Trap()).Wasm()).open(t)
	if _, err := h.Validate(t.Context(), pod()); err != nil {
		t.Fatal(err)
	}
	want := `# HELP cleat_plugin_denies_total Denials by the plugin.
# TYPE cleat_plugin_denies_total counter
cleat_plugin_denies_total{plugin="crashes",shadow="false",version="1.0.0"} 0
cleat_plugin_denies_total{plugin="denier",shadow="false",version="1.0.0"} 1
`
	if err := testutil.CollectAndCompare(h.Metrics(), strings.NewReader(want), "cleat_plugin_denies_total"); err != nil {
		t.Error(err)
	}
	if problems, err := testutil.CollectAndLint(h.Metrics()); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if n := testutil.CollectAndCount(h.Metrics(), "cleat_plugin_call_duration_seconds"); n != 2 {
		t.Errorf("%d histograms, want one for each plugin", n)
	}
}
