package pluginhost

import (
	"encoding/binary"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

// projection is a field path a guest registered, with what it may do there.
type projection struct {
	text  string
	steps []hostabi.PathSegment
	each  bool // has a [*], so it names a list of values
	read  bool
	write bool
}

func newProjection(path hostabi.FieldPath, read, write []hostabi.FieldPath) *projection {
	p := &projection{text: path.String(), steps: path.Segments(), each: path.Wildcards() > 0}
	p.read = covered(path, read)
	p.write = covered(path, write)
	return p
}

func covered(path hostabi.FieldPath, by []hostabi.FieldPath) bool {
	for _, b := range by {
		if b.Covers(path) {
			return true
		}
	}
	return false
}

// appendValue appends what object has at the path in the encoding of the ABI.
// A nil object, as any object without the member, gives null.
func (p *projection) appendValue(dst []byte, object map[string]any) ([]byte, error) {
	if !p.each {
		return hostabi.AppendValue(dst, descend(object, p.steps))
	}
	head := len(dst)
	dst = wire.AppendList(dst, 0)
	count, dst, err := appendEach(dst, head, object, p.steps)
	if err != nil {
		return nil, err
	}
	binary.LittleEndian.PutUint32(dst[head+1:], count)
	return dst, nil
}

// appendRead is appendValue with a function that finds the values.
func (p *projection) appendRead(dst []byte, read func([]byte, []hostabi.PathSegment) ([]byte, uint32, error)) ([]byte, error) {
	head := len(dst)
	if p.each {
		dst = wire.AppendList(dst, 0)
	}
	dst, count, err := read(dst, p.steps)
	switch {
	case err != nil:
		return nil, err
	case len(dst)-head > hostabi.MaxValueBytes:
		return nil, hostabi.ErrValueSize
	case p.each:
		binary.LittleEndian.PutUint32(dst[head+1:], count)
	}
	return dst, nil
}

// appendEach appends every value the steps name below node, in document order.
// head is where the value under construction starts.
func appendEach(dst []byte, head int, node any, steps []hostabi.PathSegment) (count uint32, _ []byte, err error) {
	for i, s := range steps {
		if !s.Each {
			node = member(node, s.Key)
			continue
		}
		list, _ := node.([]any)
		for _, e := range list {
			var n uint32
			if n, dst, err = appendEach(dst, head, e, steps[i+1:]); err != nil {
				return 0, nil, err
			}
			count += n
		}
		return count, dst, nil
	}
	if dst, err = hostabi.AppendValue(dst, node); err != nil {
		return 0, nil, err
	}
	if len(dst)-head > hostabi.MaxValueBytes {
		return 0, nil, hostabi.ErrValueSize
	}
	return 1, dst, nil
}

func descend(object map[string]any, steps []hostabi.PathSegment) any {
	var node any = object
	for _, s := range steps {
		node = member(node, s.Key)
	}
	return node
}

func member(node any, key string) any {
	m, _ := node.(map[string]any)
	return m[key] // nil for a nil map
}

// locate returns the way to position index of the path in object: one step
// each for the keys and list elements on it. ok is false when the path has no
// such position.
func (p *projection) locate(object map[string]any, index int32) (way []wayStep, ok bool) {
	way = make([]wayStep, 0, len(p.steps))
	if !p.each {
		for _, s := range p.steps {
			way = append(way, wayStep{key: s.Key})
		}
		return way, true
	}
	left := int(index)
	return locateEach(way, &left, object, p.steps)
}

func locateEach(way []wayStep, left *int, node any, steps []hostabi.PathSegment) ([]wayStep, bool) {
	for i, s := range steps {
		if !s.Each {
			node = member(node, s.Key)
			way = append(way, wayStep{key: s.Key})
			continue
		}
		list, _ := node.([]any)
		for n, e := range list {
			if found, ok := locateEach(append(way, wayStep{index: n, element: true}), left, e, steps[i+1:]); ok {
				return found, true
			}
		}
		return nil, false
	}
	if *left > 0 {
		*left--
		return nil, false
	}
	return way, true
}
