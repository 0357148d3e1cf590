// Package hostabi is the contract between cleat and its WebAssembly plugins:
// the names, the function table, the manifest, the field paths, the value
// encoding and the messages. Host and guest SDK both build on it; it needs
// only the standard library.
//
// The tables Imports and Exports are the one definition of the ABI. ABI.md,
// abi.json, api/v1.txt and the Go SDK's declarations are generated from them.
//
// Package wire, below this one, is the small part a guest runs on its hot
// path; package wasmfile reads and writes the container a plugin comes in.
package hostabi

//go:generate go run ./internal/gen
