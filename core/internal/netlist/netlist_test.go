package netlist

import (
	"errors"
	"fmt"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestWhole(t *testing.T) {
	other := errors.New("not permitted")
	for _, c := range []struct {
		name        string
		interrupted int // calls before the one that is not
		err         error
		calls       int
	}{
		{"at once", 0, nil, 1},
		{"the third time", 2, nil, 3},
		{"another error", 1, other, 2},
		{"never", tries, netlink.ErrDumpInterrupted, tries},
	} {
		t.Run(c.name, func(t *testing.T) {
			calls := 0
			got, err := Whole(func() ([]int, error) {
				calls++
				if calls <= c.interrupted {
					return []int{0}, fmt.Errorf("links: %w", netlink.ErrDumpInterrupted)
				}
				return []int{calls}, c.err
			})
			if !errors.Is(err, c.err) || c.err == nil && err != nil || calls != c.calls {
				t.Fatalf("%v after %d calls, want %v after %d", err, calls, c.err, c.calls)
			}
			if err == nil && got[0] != c.calls {
				t.Errorf("got the list of call %d", got[0])
			}
		})
	}
}
