// Package install tests the install script and the service that it makes, on a
// Debian with a systemd of its own: the first process in namespaces inside a
// machine of package lab. Like the tests of test/e2e it has the build tag e2e:
//
//	make debian-root && go test -tags e2e ./test/install
package install
