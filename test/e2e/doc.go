// Package e2e holds the tests that boot whole clusters, each on machines of
// package lab. They have the build tag e2e because they need root:
//
//	go test -tags e2e ./test/e2e/...
//
// CLEAT_BIN is the binary to test (default bin/cleat of the repository), and
// CLEAT_TEST_IMAGES an archive with the image cleat.dev/busybox:test (default
// build/test-images.tar).
package e2e
