package tunnel

import (
	"encoding/binary"
	"errors"
)

// maxHeader is the longest beginning of one of remotedialer's messages that the
// meter looks at: four numbers.
const maxHeader = 4 * binary.MaxVarintLen64

// messageData is the kind of a message that carries a stream's bytes.
const messageData = 1

var (
	errFragments = errors.New("a message in pieces: want one frame each")
	errFrame     = errors.New("a frame longer than a message may be")
)

// meter reads along what a node sends and says how much of it is for which stream.
// remotedialer asks a sender to pause, and keeps all that comes from one that does
// not. The zero value is at the beginning of the first frame.
type meter struct {
	head    []byte // of the frame that is being read: its header, then the beginning of its message
	left    int64  // bytes of the frame that are still to come; the header is not read while it is 0
	mask    [4]byte
	binary  bool
	payload int64
}

// feed takes the next bytes of the connection and calls data for each message that
// carries n bytes of stream id.
func (m *meter) feed(p []byte, data func(id, n int64) error) error {
	for len(p) > 0 {
		if m.left == 0 {
			m.head = append(m.head, p[0])
			p = p[1:]
			if err := m.begin(); err != nil {
				return err
			}
			continue
		}
		n := min(int64(len(p)), m.left)
		if take := min(n, int64(maxHeader-len(m.head))); take > 0 && m.binary {
			m.head = append(m.head, p[:take]...)
		}
		p = p[n:]
		if m.left -= n; m.left == 0 {
			if err := m.end(data); err != nil {
				return err
			}
			m.head = m.head[:0]
		}
	}
	return nil
}

// begin looks whether head is a whole frame header (RFC 6455, 5.2), and if so
// begins to read its message.
func (m *meter) begin() error {
	h := m.head
	if len(h) < 2 {
		return nil
	}
	const final, masked, opContinuation, opBinary = 0x80, 0x80, 0, 2
	opcode := h[0] & 0xf
	if h[0]&final == 0 || opcode == opContinuation {
		return errFragments
	}
	size, at := int64(h[1]&0x7f), 2
	switch size {
	case 126:
		if at = 4; len(h) >= at {
			size = int64(binary.BigEndian.Uint16(h[2:]))
		}
	case 127:
		if at = 10; len(h) >= at {
			long := binary.BigEndian.Uint64(h[2:])
			if long > maxMessage {
				return errFrame
			}
			size = int64(long)
		}
	}
	key := at
	if h[1]&masked != 0 {
		at += len(m.mask)
	}
	if len(h) < at {
		return nil
	}
	m.mask = [4]byte{}
	copy(m.mask[:], h[key:at])
	m.binary, m.left, m.payload = opcode == opBinary, size, size
	m.head = m.head[:0]
	return nil
}

// end reads the beginning of a message: its number, its stream's, its kind and, of
// data, a number without a meaning. What it does not understand, remotedialer does
// not either.
func (m *meter) end(data func(id, n int64) error) error {
	if !m.binary {
		return nil
	}
	for i := range m.head {
		m.head[i] ^= m.mask[i%len(m.mask)]
	}
	rest, bytes := m.head, m.payload
	var numbers [4]int64
	for i := range numbers {
		v, n := binary.Varint(rest)
		if n <= 0 {
			return nil
		}
		numbers[i], rest = v, rest[n:]
		bytes -= int64(n)
	}
	if numbers[2] != messageData {
		return nil
	}
	return data(numbers[1], bytes)
}
