// Package version says which cleat this is and what it is made of.
package version

// Cleat is this program's version. The linker sets it (see the Makefile), so
// it is a variable; nothing else writes it.
var Cleat = "v0.0.0-dev"

// What the binary carries. The Makefile reads Kubernetes from here, and a test
// holds the rest to the go.mod files and image specs that decide them.
const (
	Kubernetes = "v1.36.3+cleat1"
	Containerd = "v2.3.7"
	Runc       = "v1.5.2"
	CNIPlugins = "v1.9.1"
	CoreDNS    = "1.14.7"
	Pause      = "3.10.1"
)

// The packaged images, present in the container runtime before anything asks for them.
const (
	PauseImage   = "cleat.dev/pause:" + Pause
	CoreDNSImage = "cleat.dev/coredns:" + CoreDNS
)
