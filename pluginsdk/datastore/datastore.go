// Package datastore is the SDK of the extension point datastore: where cluster state lives.
package datastore

import (
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

// Register makes handler the plugin's decision; call it from an init function.
// A handler that returns plan.ErrNotMine leaves the endpoint to the next plugin.
func Register(handler plan.Handler[hostabi.DatastoreRequest, hostabi.DatastorePlan]) {
	plan.Register(hostabi.ExportDatastorePlan, handler)
}
