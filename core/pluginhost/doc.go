// Package pluginhost runs WebAssembly plugins: it checks them against
// plugins.lock, compiles and pools them, hands them what they were granted and
// nothing else, and answers the core's questions (package extension) with what
// they decide.
//
// A plugin passes four gates before its first instruction runs: the bytes have
// the locked digest; manifest and lock agree on every power; the import section
// asks for no more than that; and only the functions it imports are linked.
// Afterwards memory, time, output and the fields of an object it may read or
// write are bounded at each call.
package pluginhost
