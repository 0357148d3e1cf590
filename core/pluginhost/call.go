package pluginhost

import (
	"context"
	"io/fs"
	"math/rand/v2"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// callContext carries the instance into host functions. wazero hands the very
// context of a call to them, so a type assertion finds it; context.Value would
// walk the whole chain of the request each time.
type callContext struct {
	context.Context
	inst     *instance
	deadline time.Time // at which the guest is ended; the context does not know it
	ticks    int       // how often the guest has looked at the clock
	// values lets wazero look up its own keys, which it needs when it
	// instantiates and looks for in vain on every call.
	values bool
}

// bounded is the context with the deadline, for what may block.
func (c *callContext) bounded() (context.Context, context.CancelFunc) {
	return context.WithDeadline(c.Context, c.deadline)
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
	tree  fs.FS  // deployer, see extension.DeployInput

	output    []byte
	hasOutput bool
	errText   string // error_set, or the reason a host function kept

	// Admission hooks.
	handle    uint32
	request   *request
	rules     uint64
	found     *request // as the hook found it; nil unless the call is captured
	mutations []mutation
	written   int // bytes of recorded values
	denial    denial
	warnings  []string
	audit     []annotation

	begin  time.Time // when the hook was entered
	seed   [32]byte  // of random, once it was called
	random *rand.ChaCha8
	state  map[string][]byte // what kv_set recorded
	seen   *sightings        // what the cluster answered; nil unless the call is captured

	logLines int
	bytes    uint64   // that crossed the boundary in host functions
	instance [32]byte // the seed of the instance that served the call
}

type denial struct {
	message string
	code    int32
}

type annotation struct{ key, value string }
