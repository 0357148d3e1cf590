package quirks

import (
	"strings"
	"sync/atomic"

	"github.com/k3s-io/kine/pkg/drivers"
)

// ServeKine makes kine open databases of scheme with open, in place of its own way.
// Call it before kine listens.
func ServeKine(scheme string, open drivers.Constructor) { drivers.Register(scheme, open) }

// kineListener is who HearKine told last.
var kineListener atomic.Pointer[func(reason string)]

// HearKine calls f with each reason for which kine could not open its database,
// until stop is called. kine goes on trying for five minutes, and says why in its
// log alone. There is one listener: the later call replaces the earlier.
func HearKine(f func(reason string)) (stop func()) {
	kineListener.Store(&f)
	return func() { kineListener.CompareAndSwap(&f, nil) }
}

// hearKine is called with every line that BridgeLogs takes from logrus.
func hearKine(message string) {
	reason, ok := strings.CutPrefix(message, "Failed to ping database connection: ")
	if f := kineListener.Load(); ok && f != nil {
		(*f)(reason)
	}
}
