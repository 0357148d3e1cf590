package admission

import "github.com/cleat-dev/cleat/pluginsdk/internal/guest"

//go:wasmexport cleat_admission_mutate
func mutate(handle int32, rules int64) int32 {
	return guest.Call(exportMutate, handle, uint64(rules))
}

//go:wasmexport cleat_admission_validate
func validate(handle int32, rules int64) int32 {
	return guest.Call(exportValidate, handle, uint64(rules))
}
