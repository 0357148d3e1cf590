package pluginsdk

import "github.com/cleat-dev/cleat/pluginsdk/internal/guest"

//go:wasmexport cleat_abi_1
func marker() {}

//go:wasmexport cleat_init
func initialise() int32 { return guest.Init() }
