// Package netlist reads lists of the kernel's network objects whole.
package netlist

import (
	"errors"

	"github.com/vishvananda/netlink"
)

// tries is for a list that changes all the time, as while a machine boots or its pods
// end. The kernel notices a change only while it hands a list out, which takes
// microseconds, so that the next try is almost always the last.
const tries = 100

// Whole calls list again when the kernel says that its list changed while it was read.
// When that does not end it returns what the last call did, [netlink.ErrDumpInterrupted]
// included.
func Whole[T any](list func() (T, error)) (T, error) {
	for range tries - 1 {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
	}
	return list()
}
