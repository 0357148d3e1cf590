// Package pluginsdk is the part of the Go SDK every cleat plugin uses: log,
// configuration, time and start. What a plugin decides is registered through
// the package of its extension point (admission, cni, datastore, deployer), in
// an init function: a plugin is a wasm reactor, whose main never runs.
//
//	func init() { cni.Register(plan) }
//	func main() {}
//
// Package lookup reads the cluster, package state keeps what a plugin wants to
// remember. Build with pluginbuild; test with plain go test and package
// plugintest.
//
// This package and the packages admission, config, lookup, selector and state
// use neither reflection nor fmt, so a guest that needs no encoding/json stays
// under 2 MB. Packages plan, cni, datastore and deployer use encoding/json.
package pluginsdk

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// Level says how much a log line matters; the numbers are those of log/slog.
type Level int32

// The log levels.
const (
	Debug Level = -4
	Info  Level = 0
	Warn  Level = 4
	Error Level = 8
)

// Log writes one line to the host's log, under the plugin's name.
func Log(level Level, text string) { abi.Log(int32(level), text) }

// Config returns the plugin's configuration as canonical JSON, {} when it has
// none. It is available from OnInit on. Package plan decodes it with
// encoding/json, package config without.
func Config() ([]byte, error) { return abi.Fill(1024, abi.ConfigGet) }

// OnInit adds a function that runs once in each instance, before any hook; an
// error keeps the plugin from starting.
func OnInit(start func() error) { guest.OnInit(start) }

// Now returns the time at which the running hook was entered, in nanoseconds
// since 1970 UTC; time.Unix(0, Now()) is that as a time.Time, for a plugin that
// can afford package time. It does not advance while the hook runs.
func Now() int64 { return abi.Now() }

// Random fills buf with random bytes. A decision that depends on them can still
// be replayed.
func Random(buf []byte) error {
	const most = 4 << 10 // of one host call
	for len(buf) > 0 {
		part := buf[:min(len(buf), most)]
		if n := abi.Random(part); n < 0 {
			return wire.Errno(n)
		}
		buf = buf[len(part):]
	}
	return nil
}
