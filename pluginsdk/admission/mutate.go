package admission

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// Single is the index for a path without [*].
const Single = -1

// SetBool sets the value at a write path. For a path with [*], index is the
// position in the list Get returns; for any other it is Single.
//
// Mutations are made in order once the handler has returned without denial or
// failure; Get shows the object without them.
func (r *Request) SetBool(p *Path, index int, b bool) {
	r.set(p, index, wire.AppendBool(r.scratch(), b))
}

// SetInt is SetBool for an integer.
func (r *Request) SetInt(p *Path, index int, n int64) {
	r.set(p, index, wire.AppendInt(r.scratch(), n))
}

// SetString is SetBool for a string.
func (r *Request) SetString(p *Path, index int, s string) {
	r.set(p, index, wire.AppendString(r.scratch(), s))
}

// SetJSON is SetBool for any value, as JSON text.
func (r *Request) SetJSON(p *Path, index int, text []byte) {
	r.set(p, index, wire.AppendJSON(r.scratch(), text))
}

// Remove removes the member at a write path or, when the path ends in [*], the
// element. Positions count in the object as Get shows it.
func (r *Request) Remove(p *Path, index int) {
	r.check(abi.ObjectRemove(r.handle, p.id, int32(index)), "remove", p.text)
}

// AppendString appends a string to the list at a write path.
func (r *Request) AppendString(p *Path, index int, s string) {
	r.append(p, index, wire.AppendString(r.scratch(), s))
}

// AppendJSON appends any value, as JSON text, to the list at a write path.
func (r *Request) AppendJSON(p *Path, index int, text []byte) {
	r.append(p, index, wire.AppendJSON(r.scratch(), text))
}

// scratch is free memory for one encoded value, which the host copies.
func (r *Request) scratch() []byte { return r.arena[len(r.arena):] }

func (r *Request) set(p *Path, index int, value []byte) {
	r.check(abi.ObjectSet(r.handle, p.id, int32(index), abi.View(value)), "set", p.text)
}

func (r *Request) append(p *Path, index int, value []byte) {
	r.check(abi.ObjectAppend(r.handle, p.id, int32(index), abi.View(value)), "append to", p.text)
}
