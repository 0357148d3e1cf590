// Package conformance checks whether a plugin keeps to the plugin ABI, as
// hostabi/ABI.md demands it. It runs the plugin in the real host, alone, with a
// clock that stands still, and asks it what a cluster would ask and what only a
// strange one would.
//
// An author calls Run from a Go test and gets a subtest for each check:
//
//	func TestConformance(t *testing.T) {
//		wasm, err := os.ReadFile("my-policy.wasm")
//		if err != nil {
//			t.Fatal(err)
//		}
//		conformance.Run(t, wasm)
//	}
//
// Check returns the same as a Report, which is what `cleat plugin verify`
// prints and writes.
package conformance
