// Package lab makes machines for tests: each one is a set of Linux namespaces
// that looks, from within, like a Debian machine of its own on a private network,
// and of which nothing is left when the test ends.
//
//	           switch 10.99.0.254/24, a bridge without an uplink
//	    +--------------+--------------+
//	eth0 10.99.0.1  eth0 10.99.0.2  eth0 ...
//	 machine n1      machine n2      client
//
// A machine has its own network, mount, process, host name, IPC and cgroup
// namespaces. Its root is an overlay over the real one, with the changes in
// memory, so it has the programs of the real machine and cannot alter them. The
// directories of Disk are on a real file system instead, as overlays cannot be
// stacked, and outlive a Crash. The kernel settings that are not namespaced, and
// that a kubelet writes, are covered by plain files.
//
// The first process of each machine is this test binary (see Main). It ends when
// the pipe from the test closes, so the kernel takes everything down even when the
// test is killed; what a kill leaves, directories and empty cgroups, the next New
// sweeps away.
package lab
