package deployer

import "github.com/cleat-dev/cleat/pluginsdk/internal/guest"

//go:wasmexport cleat_deployer_render
func hook() int32 { return guest.Call("cleat_deployer_render", 0, 0) }
