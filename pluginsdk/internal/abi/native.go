//go:build !wasip1

package abi

import "sync/atomic"

// current is the fake host of a native build. It is package state because a
// host function has no receiver; Use is its only writer.
var current atomic.Pointer[Host]

// Use makes h the host until the function it returns is called. Package
// plugintest sees to it that one host is in use at a time.
func Use(h Host) (release func()) {
	previous := current.Swap(&h)
	return func() { current.Store(previous) }
}

func host() Host {
	if h := current.Load(); h != nil {
		return *h
	}
	panic("cleat: a host function was called outside a hook; in a test, call the plugin through package plugintest")
}
