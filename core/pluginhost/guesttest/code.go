package guesttest

// Code joins pieces of code. The parameters of a hook are locals 0 and 1;
// Local(hook, n) is the n-th of four further i32 locals.
func Code(parts ...[]byte) []byte { return join(parts...) }

// Local returns the index of the n-th extra local of a function with that many
// parameters.
func Local(params, n int) byte { return byte(params + n) }

// I32 pushes a constant.
func I32(n int32) []byte {
	out := []byte{0x41}
	for {
		b := byte(n & 0x7f)
		n >>= 7
		if n == 0 && b&0x40 == 0 || n == -1 && b&0x40 != 0 {
			return append(out, b)
		}
		out = append(out, b|0x80)
	}
}

// Get pushes a local, Set pops into one.
func Get(local byte) []byte { return []byte{0x20, local} }

// Set pops a value into a local.
func Set(local byte) []byte { return []byte{0x21, local} }

// Call calls function index; imports come first.
func Call(index uint32) []byte { return join([]byte{0x10}, uleb(index)) }

// Drop pops a value.
func Drop() []byte { return []byte{0x1a} }

// Trap is the unreachable instruction.
func Trap() []byte { return []byte{0x00} }

// Forever runs body, which leaves the stack as it is, without end. What follows
// is never reached.
func Forever(body []byte) []byte {
	return join([]byte{0x03, 0x40}, body, []byte{0x0c, 0x00, 0x0b, 0x00})
}

// Until repeats body, which leaves an i32, until that is not zero.
func Until(body []byte) []byte {
	return join([]byte{0x03, 0x40}, body, []byte{0x45, 0x0d, 0x00, 0x0b})
}

// GrowMemory pops a number of pages and pushes the old size or -1.
func GrowMemory() []byte { return []byte{0x40, 0x00} }

// GrowTable pops a null reference and a count and pushes the old size or -1.
func GrowTable(count int32) []byte {
	return join([]byte{0xd0, 0x70}, I32(count), []byte{0xfc, 0x0f, 0x00})
}

// Add and Equal pop two i32 and push their sum, or whether they are equal.
func Add() []byte { return []byte{0x6a} }

// Equal pops two i32 and pushes 1 when they are equal.
func Equal() []byte { return []byte{0x46} }

// Load pops an address and pushes the i32 there.
func Load() []byte { return []byte{0x28, 0x02, 0x00} }

// Store pops a value and an address and stores the value there.
func Store() []byte { return []byte{0x36, 0x02, 0x00} }

// If pops a condition and runs then when it is not zero; then leaves nothing.
func If(then []byte) []byte { return join([]byte{0x04, 0x40}, then, []byte{0x0b}) }

// Return leaves the function with the value on the stack.
func Return() []byte { return []byte{0x0f} }
