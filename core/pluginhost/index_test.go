package pluginhost

import (
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

func TestIndex(t *testing.T) {
	rule := func(ops, groups, versions, resources string) hostabi.MatchRule {
		r := hostabi.MatchRule{APIGroups: strings.Split(groups, ","), APIVersions: strings.Split(versions, ","), Resources: strings.Split(resources, ",")}
		for op := range strings.SplitSeq(ops, ",") {
			r.Operations = append(r.Operations, hostabi.Operation(op))
		}
		return r
	}
	tests := []struct {
		rule    hostabi.MatchRule
		request string // operation group version resource[/subresource]
		want    bool
	}{
		{rule("CREATE", "", "v1", "pods"), "CREATE  v1 pods", true},
		{rule("CREATE", "", "v1", "pods"), "UPDATE  v1 pods", false},
		{rule("CREATE", "", "v1", "pods"), "CREATE  v1 pods/status", false},
		{rule("CREATE", "", "v1", "pods"), "CREATE  v2 pods", false},
		{rule("CREATE", "", "v1", "pods"), "CREATE apps v1 pods", false},
		{rule("CREATE", "", "v1", "pods"), "CREATE  v1 nodes", false},
		{rule("CREATE,UPDATE", "", "v1", "nodes,pods"), "UPDATE  v1 pods", true},
		{rule("*", "", "v1", "pods"), "CONNECT  v1 pods", true},
		{rule("*", "", "v1", "pods"), "WATCH  v1 pods", false},
		{rule("CREATE", "*", "*", "deployments"), "CREATE apps v1beta1 deployments", true},
		{rule("CREATE", "apps,batch", "v1", "*"), "CREATE batch v1 jobs", true},
		{rule("CREATE", "apps", "v1", "*"), "CREATE apps v1 deployments/scale", false},
		{rule("UPDATE", "apps", "v1", "deployments/*"), "UPDATE apps v1 deployments/scale", true},
		{rule("UPDATE", "apps", "v1", "deployments/*"), "UPDATE apps v1 deployments", false},
		{rule("UPDATE", "*", "*", "*/scale"), "UPDATE apps v1 deployments/scale", true},
		{rule("UPDATE", "*", "*", "*/scale"), "UPDATE apps v1 deployments/status", false},
		{rule("UPDATE", "*", "*", "*/*"), "UPDATE apps v1 deployments/status", true},
		{rule("UPDATE", "*", "*", "*/*"), "UPDATE apps v1 deployments", true},
		{rule("UPDATE", "", "v1", "pods/ephemeralcontainers"), "UPDATE  v1 pods/ephemeralcontainers", true},
	}
	for _, test := range tests {
		var ix index
		ix.add(0, []hostabi.MatchRule{rule("DELETE", "other", "v1", "things"), test.rule})
		f := strings.Split(test.request, " ")
		resource, sub, _ := strings.Cut(f[3], "/")
		if got := ix.handles(hostabi.Operation(f[0]), f[1], f[2], resource, sub); got != test.want {
			t.Errorf("rule %v, request %q: handled %t, want %t", test.rule, test.request, got, test.want)
		}
		masks := make([]uint64, 1)
		ix.match(masks, hostabi.Operation(f[0]), f[1], f[2], resource, sub)
		if want := map[bool]uint64{true: 2}[test.want]; masks[0] != want {
			t.Errorf("rule %v, request %q: mask %b, want %b", test.rule, test.request, masks[0], want)
		}
	}
}

func TestHandlesAllocatesNothing(t *testing.T) {
	h := lockOf(t, hook("fine", guesttest.I32(0)).Wasm()).open(t)
	if n := testing.AllocsPerRun(100, func() {
		if !h.Handles(hostabi.OperationCreate, "", "v1", "pods", "") || h.Handles(hostabi.OperationUpdate, "coordination.k8s.io", "v1", "leases", "") {
			t.Fatal("wrong answer")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
