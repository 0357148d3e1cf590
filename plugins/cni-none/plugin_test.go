package main

import (
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plugintest"
)

func TestPlan(t *testing.T) {
	plan, claimed, err := plugintest.New(t, "manifest.json", nil).CNI(hostabi.CNIRequest{Plugin: "cni-none"})
	if err != nil || !claimed {
		t.Fatalf("claimed %v, %v", claimed, err)
	}
	plugintest.Golden(t, "plan", plan)
}
