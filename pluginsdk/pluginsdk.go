// Package pluginsdk is the part of the Go SDK every cleat plugin uses: log,
// configuration and start. What a plugin decides is registered through the
// package of its extension point (admission, cni, datastore, deployer), in an
// init function: a plugin is a wasm reactor, whose main never runs.
//
//	func init() { cni.Register(plan) }
//	func main() {}
//
// Build with pluginbuild; test with plain go test and package plugintest.
//
// This package and package admission use neither reflection nor fmt, so a
// guest that needs no JSON stays under 2 MB. Packages plan, cni, datastore and
// deployer use encoding/json.
package pluginsdk

import (
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
// none. It is available from OnInit on. Package plan decodes it.
func Config() ([]byte, error) { return abi.Fill(1024, abi.ConfigGet) }

// OnInit adds a function that runs once in each instance, before any hook; an
// error keeps the plugin from starting.
func OnInit(start func() error) { guest.OnInit(start) }
