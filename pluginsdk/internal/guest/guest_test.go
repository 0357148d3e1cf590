//go:build !wasip1

package guest

import (
	"errors"
	"testing"

	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// host keeps the error text.
type host struct {
	abi.Host
	text string
}

func (h *host) ErrorSet(text string) int32 {
	h.text = text
	return 0
}

func TestInitAndCall(t *testing.T) {
	h := &host{}
	defer abi.Use(h)()
	defer func() { hooks, starts, invalid = nil, nil, "" }()

	if n := Call("cleat_cni_plan", 0, 0); n != int32(wire.ENOTSUP) || h.text != "no handler is registered for cleat_cni_plan" {
		t.Errorf("without a handler: %d, %q", n, h.text)
	}
	Register("cleat_cni_plan", func(handle int32, rules uint64) int32 { return handle + int32(rules) })
	if n := Call("cleat_cni_plan", 3, 4); n != 7 {
		t.Errorf("got %d", n)
	}

	var started []int
	OnInit(func() error { started = append(started, 1); return nil })
	OnInit(func() error { started = append(started, 2); return nil })
	if n := Init(); n != 0 || len(started) != 2 || started[0] != 1 {
		t.Errorf("Init: %d, %v", n, started)
	}
	OnInit(func() error { return errors.New("config mtu: -1, want 0 or more") })
	if n := Init(); n != int32(wire.EINVAL) || h.text != "config mtu: -1, want 0 or more" {
		t.Errorf("failing start: %d, %q", n, h.text)
	}
	Register("cleat_cni_plan", nil)
	if n := Init(); n != int32(wire.EINVAL) || h.text != "two handlers are registered for cleat_cni_plan; register one" {
		t.Errorf("two handlers: %d, %q", n, h.text)
	}
}

// A bare number leaves the text to the host.
func TestFailWithErrno(t *testing.T) {
	h := &host{text: "line 3: bad"}
	defer abi.Use(h)()
	if n := FailWith(wire.ENOENT); n != int32(wire.ENOENT) || h.text != "line 3: bad" {
		t.Errorf("%d, %q", n, h.text)
	}
}

func TestHostFunctionOutsideOfAHook(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	abi.ErrorSet("x")
}
