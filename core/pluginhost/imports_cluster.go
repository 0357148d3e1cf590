package pluginhost

import (
	"context"
	"errors"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

func lookupFunctions() map[string]hostFunc {
	return map[string]hostFunc{"lookup_get": lookupGet, "lookup_list": lookupList}
}

func kvFunctions() map[string]hostFunc {
	return map[string]hostFunc{"kv_get": kvGet, "kv_set": kvSet}
}

// lookupQuery is what the two lookup functions are asked: their parameters have
// the same shape, the third is a name or a selector.
type lookupQuery struct {
	kind            hostabi.Kind
	namespace, what string
	path            *projection // nil = the whole object
}

const maxQueryText = 4 << 10

// query reads the parameters of a lookup; e is 0 when they are well-formed and
// the kind is granted.
func (in *instance) query(stack []uint64) (q lookupQuery, e hostabi.Errno) {
	var texts [4]string
	for i := range texts {
		data, ok := in.mem.Read(uint32(stack[2*i]), uint32(stack[2*i+1]))
		if !ok || len(data) > maxQueryText || !utf8.Valid(data) {
			return q, hostabi.EINVAL
		}
		texts[i] = string(data)
	}
	var err error
	if q.kind, err = hostabi.ParseKind(texts[0]); err != nil {
		in.call.errText = err.Error()
		return q, hostabi.EINVAL
	}
	if !in.plugin.lookups[q.kind] {
		in.call.errText = "kind " + q.kind.String() + " is not among the lookups the lock grants"
		return q, hostabi.EACCES
	}
	q.namespace, q.what = texts[1], texts[2]
	if texts[3] == "" {
		return q, 0
	}
	path, err := hostabi.ParseFieldPath(texts[3])
	if err != nil {
		in.call.errText = err.Error()
		return q, hostabi.EINVAL
	}
	q.path = newProjection(path, nil, nil)
	return q, 0
}

// appendTo appends what the query wants of an object.
func (q *lookupQuery) appendTo(dst []byte, object map[string]any) ([]byte, error) {
	if q.path == nil {
		return hostabi.AppendValue(dst, object)
	}
	return q.path.appendValue(dst, object)
}

// cluster is the cluster of the running call: a replay has its own.
func (in *instance) cluster() extension.Cluster {
	if in.call.hook == hookDatastore || in.call.hook == hookInit {
		return nil
	}
	return in.plugin.host.cluster
}

func lookupGet(in *instance, stack []uint64) {
	q, e := in.query(stack)
	cluster := in.cluster()
	switch {
	case e != 0:
		fail(stack, e)
		return
	case cluster == nil:
		fail(stack, hostabi.ENOTSUP)
		return
	case q.what == "":
		fail(stack, hostabi.EINVAL)
		return
	}
	object, err := cluster.Lookup(q.kind, q.namespace, q.what)
	in.call.seen.lookup(q, object, err)
	if err != nil {
		in.clusterFail(stack, err)
		return
	}
	value, err := q.appendTo(in.scratch[:0], object)
	if err != nil {
		fail(stack, errnoOf(err))
		return
	}
	in.scratch = value
	in.fill(stack, uint32(stack[8]), uint32(stack[9]), value)
}

func lookupList(in *instance, stack []uint64) {
	q, e := in.query(stack)
	cluster := in.cluster()
	switch {
	case e != 0:
		fail(stack, e)
		return
	case cluster == nil:
		fail(stack, hostabi.ENOTSUP)
		return
	}
	objects, err := cluster.LookupList(q.kind, q.namespace, q.what)
	in.call.seen.list(q, objects, err)
	if err != nil {
		in.clusterFail(stack, err)
		return
	}
	if len(objects) > hostabi.MaxLookupObjects {
		fail(stack, hostabi.E2BIG)
		return
	}
	value := wire.AppendList(in.scratch[:0], uint32(len(objects)))
	for _, object := range objects {
		if value, err = q.appendTo(value, object); err == nil && len(value) > hostabi.MaxValueBytes {
			err = hostabi.ErrValueSize
		}
		if err != nil {
			fail(stack, errnoOf(err))
			return
		}
	}
	in.scratch = value
	in.fill(stack, uint32(stack[8]), uint32(stack[9]), value)
}

// clusterFail answers for an error of the cluster and keeps its text.
func (in *instance) clusterFail(stack []uint64, err error) {
	e := hostabi.EIO
	switch {
	case errors.Is(err, extension.ErrNotFound):
		fail(stack, hostabi.ENOENT)
		return
	case errors.Is(err, extension.ErrFull):
		e = hostabi.E2BIG
	case errors.Is(err, extension.ErrBadQuery):
		e = hostabi.EINVAL
	}
	in.call.errText = cut(err.Error(), hostabi.MaxTextBytes)
	fail(stack, e)
}

// stateKey reads a key of the plugin's state.
func (in *instance) stateKey(ptr, n uint64) (string, bool) {
	data, ok := in.mem.Read(uint32(ptr), uint32(n))
	if !ok || len(data) == 0 || len(data) > hostabi.MaxKeyBytes || !utf8.Valid(data) {
		return "", false
	}
	return string(data), true
}

func kvGet(in *instance, stack []uint64) {
	key, ok := in.stateKey(stack[0], stack[1])
	cluster := in.cluster()
	switch {
	case !ok:
		fail(stack, hostabi.EINVAL)
		return
	case cluster == nil:
		fail(stack, hostabi.ENOTSUP)
		return
	}
	value, set := in.call.state[key]
	if !set {
		ctx, cancel := in.ctx.bounded()
		defer cancel()
		var err error
		value, err = cluster.State(ctx, in.plugin.locked.Name, key)
		in.call.seen.state(key, value, err)
		if err != nil {
			in.clusterFail(stack, err)
			return
		}
	}
	if len(value) == 0 {
		fail(stack, hostabi.ENOENT)
		return
	}
	in.fill(stack, uint32(stack[2]), uint32(stack[3]), value)
}

func kvSet(in *instance, stack []uint64) {
	key, ok := in.stateKey(stack[0], stack[1])
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	if in.cluster() == nil {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	if uint32(stack[3]) > hostabi.MaxStateValue {
		fail(stack, hostabi.E2BIG)
		return
	}
	value, ok := in.mem.Read(uint32(stack[2]), uint32(stack[3]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	c := in.call
	if _, known := c.state[key]; !known && len(c.state) == hostabi.MaxStateKeys {
		fail(stack, hostabi.E2BIG)
		return
	}
	if c.state == nil {
		c.state = map[string][]byte{}
	}
	c.state[key] = append([]byte{}, value...)
	stack[0] = 0
}

// keepState stores what a hook that has decided put into the plugin's state.
func (p *plugin) keepState(ctx context.Context, c *call) error {
	if len(c.state) == 0 || c.request != nil && c.request.DryRun || p.locked.Shadow {
		return nil
	}
	if err := p.host.cluster.SetState(ctx, p.locked.Name, c.state); err != nil {
		return &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultState, Err: err,
			Detail: "its state could not be stored: " + firstLine(err.Error()),
			Advice: "the datastore must answer; at most 256 keys and 1 MiB are kept for a plugin"}
	}
	return nil
}
