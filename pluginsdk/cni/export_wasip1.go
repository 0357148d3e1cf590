package cni

import "github.com/cleat-dev/cleat/pluginsdk/internal/guest"

//go:wasmexport cleat_cni_plan
func hook() int32 { return guest.Call("cleat_cni_plan", 0, 0) }
