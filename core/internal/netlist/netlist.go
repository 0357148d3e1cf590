// Package netlist reads lists of the kernel's network objects whole.
package netlist

import (
	"errors"
	"time"

	"github.com/vishvananda/netlink"
)

const (
	tries = 100
	pause = 10 * time.Millisecond
)

// Whole calls list again, for a second at most, when the kernel says that its list
// changed while it was read, as it does while a machine boots or pods end. After that
// it returns what the last call did, [netlink.ErrDumpInterrupted] included.
func Whole[T any](list func() (T, error)) (T, error) {
	for range tries - 1 {
		all, err := list()
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			return all, err
		}
		time.Sleep(pause)
	}
	return list()
}
