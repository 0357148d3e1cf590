// Package authors does what a plugin author does, in every language: it tests the
// SDKs and the golden guests natively, and begins, tests, builds and verifies a
// plugin for each point. It needs the compilers that scripts/deps installs, and
// bin/cleat.
package authors
