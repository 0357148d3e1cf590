package datastore

import "github.com/cleat-dev/cleat/pluginsdk/internal/guest"

//go:wasmexport cleat_datastore_plan
func hook() int32 { return guest.Call("cleat_datastore_plan", 0, 0) }
