// Package guest holds what a plugin registered, between its package
// initialisation and the calls of the host. A wasm reactor has no main that
// runs, so init functions are the only place to register in and package state
// the only place to keep it. An instance is single-threaded.
package guest

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// Hook serves one export; plan hooks ignore the arguments.
type Hook func(handle int32, rules uint64) int32

type entry struct {
	export string
	hook   Hook
}

var (
	hooks   []entry
	starts  []func() error
	invalid string // what was registered wrongly, told by Init
)

// Register makes hook serve the export.
func Register(export string, hook Hook) {
	for _, e := range hooks {
		if e.export == export {
			invalid = "two handlers are registered for " + export + "; register one"
			return
		}
	}
	hooks = append(hooks, entry{export, hook})
}

// OnInit adds a function that cleat_init calls.
func OnInit(start func() error) { starts = append(starts, start) }

// Init is cleat_init.
func Init() int32 {
	if invalid != "" {
		return Fail(wire.EINVAL, invalid)
	}
	for _, start := range starts {
		if err := start(); err != nil {
			return FailWith(err)
		}
	}
	return 0
}

// Call runs the hook of the export; a plugin that registered none answers
// ENOTSUP.
func Call(export string, handle int32, rules uint64) int32 {
	for _, e := range hooks {
		if e.export == export {
			return e.hook(handle, rules)
		}
	}
	return Fail(wire.ENOTSUP, "no handler is registered for "+export)
}

// Fail tells the host why a hook fails and returns the number.
func Fail(errno wire.Errno, why string) int32 {
	abi.ErrorSet(why)
	return int32(errno)
}

// FailWith is Fail for an error: EINVAL with its text. A bare error number is
// returned without a text, so that one the host set stands.
func FailWith(err error) int32 {
	if errno, ok := err.(wire.Errno); ok {
		return int32(errno)
	}
	return Fail(wire.EINVAL, err.Error())
}
