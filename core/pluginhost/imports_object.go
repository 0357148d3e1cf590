package pluginhost

import (
	"errors"

	"github.com/cleat-dev/cleat/hostabi"
)

func objectFunctions() map[string]hostFunc {
	return map[string]hostFunc{
		"path_register": objectPathRegister,
		"object_get":    objectGet,
		"object_set":    objectSet,
		"object_remove": objectRemove,
		"object_append": objectAppend,
	}
}

func objectJSONFunctions() map[string]hostFunc {
	return map[string]hostFunc{"object_json": objectJSON}
}

func objectPathRegister(in *instance, stack []uint64) {
	if in.call.hook != hookInit {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	data, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok || len(data) > hostabi.MaxPathBytes {
		fail(stack, hostabi.EINVAL)
		return
	}
	path, err := hostabi.ParseFieldPath(string(data))
	if err != nil {
		in.call.errText = err.Error()
		fail(stack, hostabi.EINVAL)
		return
	}
	if id, known := in.pathIDs[path.String()]; known {
		stack[0] = uint64(id)
		return
	}
	proj := newProjection(path, in.plugin.readPaths, in.plugin.writePaths)
	if !proj.read && !proj.write {
		in.call.errText = "field path " + path.String() + " is neither among the read paths nor the write paths the lock grants"
		fail(stack, hostabi.EACCES)
		return
	}
	if len(in.paths) == hostabi.MaxPaths {
		fail(stack, hostabi.E2BIG)
		return
	}
	id := int32(len(in.paths))
	in.paths = append(in.paths, proj)
	in.pathIDs[path.String()] = id
	stack[0] = uint64(uint32(id))
}

// admission returns the running call if handle is its handle.
func (in *instance) admission(handle uint64) *call {
	if c := in.call; c.hook.admission() && c.handle == uint32(handle) {
		return c
	}
	return nil
}

// path returns the projection of a path id, nil for an unknown one.
func (in *instance) path(id uint64) *projection {
	if uint32(id) >= uint32(len(in.paths)) {
		return nil
	}
	return in.paths[uint32(id)]
}

func objectGet(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	path := in.path(stack[1])
	switch {
	case c == nil:
		fail(stack, hostabi.EBADF)
		return
	case path == nil:
		fail(stack, hostabi.EINVAL)
		return
	case !path.read:
		fail(stack, hostabi.EACCES)
		return
	}
	value, err := c.request.appendValue(in.scratch[:0], path)
	if err != nil {
		c.errText = err.Error()
		fail(stack, errnoOf(err))
		return
	}
	in.scratch = value
	in.fill(stack, uint32(stack[2]), uint32(stack[3]), value)
}

func errnoOf(err error) hostabi.Errno {
	if errors.Is(err, hostabi.ErrValueSize) {
		return hostabi.E2BIG
	}
	return hostabi.EIO
}

func objectSet(in *instance, stack []uint64) {
	in.record(stack, mutationSet)
}

func objectRemove(in *instance, stack []uint64) {
	in.record(stack, mutationRemove)
}

func objectAppend(in *instance, stack []uint64) {
	in.record(stack, mutationAppend)
}

// record notes a mutation; the stack holds handle, path id, index and, unless
// it removes, address and length of a value.
func (in *instance) record(stack []uint64, kind mutationKind) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	if c.hook != hookMutate {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	path, index := in.path(stack[1]), int32(uint32(stack[2]))
	if path == nil || path.each == (index < 0) || !path.each && index != -1 {
		fail(stack, hostabi.EINVAL)
		return
	}
	if kind == mutationAppend && path.steps[len(path.steps)-1].Each {
		fail(stack, hostabi.EINVAL)
		return
	}
	if !path.write {
		fail(stack, hostabi.EACCES)
		return
	}
	m := mutation{kind: kind, path: path.text}
	if kind != mutationRemove {
		if errno := in.recordValue(c, &m, uint32(stack[3]), uint32(stack[4])); errno != 0 {
			fail(stack, errno)
			return
		}
	}
	if len(c.mutations) == hostabi.MaxMutations {
		fail(stack, hostabi.E2BIG)
		return
	}
	object, err := c.request.object()
	if err != nil {
		c.errText = err.Error()
		fail(stack, hostabi.EIO)
		return
	}
	way, found := path.locate(object, index)
	if !found {
		fail(stack, hostabi.ENOENT)
		return
	}
	m.way = way
	c.mutations = append(c.mutations, m)
	stack[0] = 0
}

func (in *instance) recordValue(c *call, m *mutation, ptr, n uint32) hostabi.Errno {
	if n > hostabi.MaxValueBytes || c.written+int(n) > hostabi.MaxMessageBytes {
		return hostabi.E2BIG
	}
	data, ok := in.mem.Read(ptr, n)
	if !ok {
		return hostabi.EINVAL
	}
	value, err := hostabi.DecodeValue(data)
	if err != nil {
		c.errText = err.Error()
		return hostabi.EINVAL
	}
	m.value = value
	c.written += int(n)
	return 0
}

func objectJSON(in *instance, stack []uint64) {
	c := in.admission(stack[0])
	if c == nil {
		fail(stack, hostabi.EBADF)
		return
	}
	var object map[string]any
	var err error
	switch int32(uint32(stack[1])) {
	case hostabi.ObjectNew:
		object, err = c.request.object()
	case hostabi.ObjectOld:
		object, err = c.request.oldObject()
	default:
		fail(stack, hostabi.EINVAL)
		return
	}
	if err != nil {
		c.errText = err.Error()
		fail(stack, hostabi.EIO)
		return
	}
	text := []byte("null")
	if object != nil {
		if text, err = hostabi.AppendJSON(in.scratch[:0], object); err != nil {
			fail(stack, hostabi.EIO)
			return
		}
	}
	if len(text) > hostabi.MaxMessageBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	in.scratch = text
	in.fill(stack, uint32(stack[2]), uint32(stack[3]), text)
}
