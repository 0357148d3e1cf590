package quirks

import (
	"bytes"
	"runtime"
	"runtime/pprof"
	"strings"
	"sync/atomic"

	"k8s.io/klog/v2"
)

// lastLine is what klog was told last, at any level.
var lastLine atomic.Pointer[string]

// CatchFatal keeps the Fatal of klog, by which some Kubernetes components give up,
// from ending the process without a word: the goroutine that calls it ends, and
// giveUp gets the value of its profiler label and what klog was told last, which
// is the message unless another goroutine spoke at the same moment. BridgeLogs
// must have been called. os.Exit itself cannot be caught.
func CatchFatal(label string, giveUp func(value, said string)) {
	klog.OsExit = func(int) {
		said := "it did not say why"
		if line := lastLine.Load(); line != nil {
			said = strings.TrimSpace(*line)
		}
		giveUp(labelOfCaller(label), said)
		runtime.Goexit() // the callers of Fatal expect not to go on
	}
}

// labelOfCaller is the value of a profiler label of this goroutine, "" if it has
// none. There is no way to ask for it, but the profile of all goroutines tells.
func labelOfCaller(label string) string {
	var profile bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&profile, 1); err != nil {
		return ""
	}
	// Each goroutine is one paragraph, with a line such as
	// # labels: {"unit":"apiserver"}
	for paragraph := range strings.SplitSeq(profile.String(), "\n\n") {
		if !strings.Contains(paragraph, "quirks.labelOfCaller") {
			continue
		}
		_, after, _ := strings.Cut(paragraph, `"`+label+`":"`)
		value, _, _ := strings.Cut(after, `"`)
		return value
	}
	return ""
}
