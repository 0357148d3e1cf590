// Package e2e holds the tests that boot whole clusters, each on machines of
// package lab. They have the build tag e2e because they need root:
//
//	go test -tags e2e ./test/e2e/...
//
// CLEAT_BIN is the binary to test (default bin/cleat of the repository), and
// CLEAT_TEST_IMAGES an archive with the image cleat.dev/busybox:test (default
// build/test-images.tar).
//
// A test that waits most of the time is parallel: all together must fit into an hour
// beside the rest. One that bounds times or compares what it left behind runs alone.
package e2e
