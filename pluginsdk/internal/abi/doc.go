// Package abi declares the host functions: as wasm imports in a plugin, and as
// calls into a fake host in a native build, so that plugins run under go test.
// A guest's import section holds only the functions it can reach.
package abi
