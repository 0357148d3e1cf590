// Package deployer keeps the objects in a server's manifests directory in the
// cluster: a file that appears or changes is applied within a second, what
// leaves a file, or leaves with its file, is deleted.
//
// Which objects a file holds is decided by a deployer plugin. This package
// reads the directory, applies server-side as one field manager, and keeps per
// file an Addon object in kube-system with the inventory that pruning needs.
//
// # What is one addon
//
// A text file, an archive that a plugin claims, or a directory that directly
// holds a file of a name that a plugin claims (Chart.yaml, kustomization.yaml):
// then all below it is one addon and nothing in it is deployed alone. Companions
// (web.values.yaml beside web.tgz) belong to what they are called after. Archive
// or directory are read into memory as the checksum says before a plugin sees
// them. Links inside a directory are refused, not followed. A directory that is
// an addon stays one when nobody claims it any more: its objects are left alone
// and its files do not become manifests.
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
// system's own namespaces; nothing with the annotation cleat.dev/keep: "true";
// and nothing for a file that cannot be read or rendered, is empty, is being
// written, or has a .skip file beside it.
package deployer
