// Package state keeps a little of what a plugin wants to remember: at most 256
// keys, which every server of the cluster shares.
//
// A plugin that uses it imports, and must declare, the capability cleat_kv_v1.
// Every error is a wire.Errno. There is no state in OnInit and at the datastore
// point (ENOTSUP), and the last of two writers at once wins.
package state

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// Get returns the value of a key, wire.ENOENT when there is none. What the
// running hook has set shows.
func Get(key string) ([]byte, error) {
	return abi.Fill(512, func(buf []byte) int32 { return abi.KVGet(key, buf) })
}

// Set records a value of at most 64 KiB; an empty one removes the key. The host
// stores it once the hook has decided, and drops it when the hook fails or the
// request is a dry run. A key has 1 to 253 bytes of UTF-8.
func Set(key string, value []byte) error {
	if n := abi.KVSet(key, abi.View(value)); n < 0 {
		return wire.Errno(n)
	}
	return nil
}
