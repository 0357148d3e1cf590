package pluginhost

import (
	"context"

	"github.com/cleat-dev/cleat/hostabi"
)

// callContext carries the instance into host functions. wazero hands the very
// context of a call to them, so a type assertion finds it; context.Value would
// walk the whole chain of the request each time.
type callContext struct {
	context.Context
	inst *instance
	// values lets wazero look up its own keys, which it needs when it
	// instantiates and looks for in vain on every call.
	values bool
}

func (c *callContext) Value(key any) any {
	if c.values {
		return c.Context.Value(key)
	}
	return nil
}

// hookKind is an export the host calls.
type hookKind uint8

const (
	hookInit hookKind = iota
	hookDatastore
	hookCNI
	hookDeployer
	hookMutate
	hookValidate
	hookCount
)

// export returns the name of the guest function.
func (h hookKind) export() string {
	switch h {
	case hookInit:
		return hostabi.ExportInit
	case hookDatastore:
		return hostabi.ExportDatastorePlan
	case hookCNI:
		return hostabi.ExportCNIPlan
	case hookDeployer:
		return hostabi.ExportDeployerRender
	case hookMutate:
		return hostabi.ExportAdmissionMutate
	default:
		return hostabi.ExportAdmissionValidate
	}
}

func (h hookKind) plan() bool { return h >= hookDatastore && h <= hookDeployer }

func (h hookKind) admission() bool { return h == hookMutate || h == hookValidate }

// call is one run of a hook: what goes in, and what host functions gathered.
// It belongs to one goroutine.
type call struct {
	hook  hookKind
	input []byte // plan hooks

	output    []byte
	hasOutput bool
	errText   string // error_set, or the reason a host function kept

	// Admission hooks.
	handle    uint32
	request   *request
	mutations []mutation
	written   int // bytes of recorded values
	denial    denial
	warnings  []string
	audit     []annotation

	logLines int
}

type denial struct {
	message string
	code    int32
}

type annotation struct{ key, value string }
