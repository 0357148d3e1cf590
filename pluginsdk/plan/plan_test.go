//go:build !wasip1

package plan_test

import (
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/deployer"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// future is a host of a later minor version: its messages have fields that this
// SDK does not know.
type future struct {
	abi.Host
	output string
}

func (*future) InputGet(buf []byte) int32 {
	const input = `{"addon":"a","attempt":3,"content":"x","file":"a.yaml","kind":"file",` +
		`"origin":{"commit":"abc","signed":true},"tags":["a"],"variables":{"A":"1"}}`
	return int32(copy(buf[:len(input)], input))
}

func (f *future) OutputSet(text string) int32 {
	f.output = text
	return 0
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	var got hostabi.DeployRequest
	deployer.Register(func(req hostabi.DeployRequest) (hostabi.DeployResult, error) {
		got = req
		return hostabi.DeployResult{Warnings: []string{"w"}}, nil
	})
	h := &future{}
	defer abi.Use(h)()
	if n := guest.Call(hostabi.ExportDeployerRender, 0, 0); n != hostabi.PlanDecided {
		t.Fatalf("the hook returned %d", n)
	}
	if got.File != "a.yaml" || got.Addon != "a" || got.Content != "x" || got.Kind != hostabi.DeployKindFile || got.Variables["A"] != "1" {
		t.Errorf("got %+v", got)
	}
	if h.output != `{"objects":null,"warnings":["w"]}` {
		t.Errorf("answered %s", h.output)
	}
}
