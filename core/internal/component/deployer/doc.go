// Package deployer keeps the objects in a server's manifests directory in the
// cluster: a file that appears or changes is applied within a second, what
// leaves a file, or leaves with its file, is deleted.
//
// Which objects a file holds is decided by a deployer plugin. This package
// reads the directory, applies server-side as one field manager, and keeps per
// file an Addon object in kube-system with the inventory that pruning needs.
//
// # Who wins
//
// k3s users hold the file to be the truth for the objects in it: what somebody
// edited by hand is put back when the file is applied again, at the latest when
// the server restarts. That is kept for every object that belongs to the file's
// Addon; fields another manager had taken are named in an event. But a file
// does not seize fields of an object that was in the cluster before and that
// another manager (helm, kubectl, an operator) looks after: such a conflict
// fails the file, with the fields, the manager and the way out in event and
// status. The granularity is the object, because after another manager's write
// managedFields no longer tells which fields were once ours.
//
// # What is never deleted
//
// Pruning deletes only what an Addon of this server lists, under the UID it
// lists, while the object still carries the Addon's label; never one of the
// system's own namespaces; and nothing for a file that cannot be read or
// rendered, is empty, is being written, or has a .skip file beside it.
package deployer
