package pluginhost

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strings"
	"time"
	"unicode/utf16"

	"github.com/cleat-dev/cleat/hostabi"
)

// maxLogLines bounds what a guest may log in one call.
const maxLogLines = 100

func coreFunctions() map[string]hostFunc {
	return map[string]hostFunc{
		"log":        coreLog,
		"input_get":  coreInputGet,
		"output_set": coreOutputSet,
		"error_set":  coreErrorSet,
		"config_get": coreConfigGet,
		"now":        coreNow,
		"random":     coreRandom,
	}
}

func envFunctions() map[string]hostFunc {
	return map[string]hostFunc{"abort": envAbort}
}

// fail answers with an error number.
func fail(stack []uint64, e hostabi.Errno) { stack[0] = uint64(uint32(e)) }

// fill writes data into the guest's buffer and answers its length; a buffer
// that is too small is not touched.
func (in *instance) fill(stack []uint64, buf, limit uint32, data []byte) {
	if len(data) <= int(limit) && !in.mem.Write(buf, data) {
		fail(stack, hostabi.EINVAL)
		return
	}
	in.call.bytes += uint64(len(data))
	stack[0] = uint64(uint32(len(data)))
}

// text reads guest bytes as one line of valid UTF-8, cut to most bytes.
func (in *instance) text(ptr, n uint64, most int) (string, bool) {
	data, ok := in.mem.Read(uint32(ptr), uint32(n))
	if !ok {
		return "", false
	}
	// One byte of slack keeps the boundary of the last character visible to cut.
	s := strings.ToValidUTF8(string(data[:min(len(data), most+1)]), "�")
	return cut(s, most), true
}

// sleep waits, at most until the running call must end, and then ends it.
func (in *instance) sleep(d time.Duration) {
	ctx, cancel := in.ctx.bounded()
	defer cancel()
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
		panic(errLate())
	}
}

func coreLog(in *instance, stack []uint64) {
	level := slog.Level(int32(uint32(stack[0])))
	_, ok := in.mem.Read(uint32(stack[1]), uint32(stack[2]))
	if !ok || level < slog.LevelDebug || level > slog.LevelError {
		fail(stack, hostabi.EINVAL)
		return
	}
	c, log := in.call, in.plugin.log
	c.logLines++
	switch {
	case c.logLines > maxLogLines:
	case c.logLines == maxLogLines:
		log.WarnContext(fromGuest(), "plugin logs too much, the rest of this call is dropped", "lines", maxLogLines)
	default:
		text, _ := in.text(stack[1], stack[2], hostabi.MaxLogBytes)
		log.Log(fromGuest(), level, oneLine(text)) // a terminal is shown it as it is
	}
	stack[0] = 0
}

func coreInputGet(in *instance, stack []uint64) {
	if !in.call.hook.plan() {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	in.fill(stack, uint32(stack[0]), uint32(stack[1]), in.call.input)
}

func coreOutputSet(in *instance, stack []uint64) {
	if !in.call.hook.plan() {
		fail(stack, hostabi.ENOTSUP)
		return
	}
	if uint32(stack[1]) > hostabi.MaxMessageBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	data, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	in.call.bytes += uint64(len(data))
	in.call.output = bytes.Clone(data)
	in.call.hasOutput = true
	stack[0] = 0
}

func coreErrorSet(in *instance, stack []uint64) {
	text, ok := in.text(stack[0], stack[1], hostabi.MaxTextBytes)
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	in.call.errText = oneLine(text)
	stack[0] = 0
}

func coreConfigGet(in *instance, stack []uint64) {
	in.fill(stack, uint32(stack[0]), uint32(stack[1]), in.plugin.config)
}

func coreNow(in *instance, stack []uint64) { stack[0] = uint64(in.call.begin.UnixNano()) }

func coreRandom(in *instance, stack []uint64) {
	n := uint32(stack[1])
	if n > hostabi.MaxRandomBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	buf, ok := in.mem.Read(uint32(stack[0]), n)
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	if in.call.random == nil {
		in.call.seed = in.plugin.host.seed()
		in.call.random = rand.NewChaCha8(in.call.seed)
	}
	_, _ = in.call.random.Read(buf) // never fails
	stack[0] = uint64(n)
}

// envAbort ends the call as AssemblyScript's runtime asks for it, with the
// message it left in memory: UTF-16, its byte length in the word before.
func envAbort(in *instance, stack []uint64) {
	message := in.utf16(uint32(stack[0]))
	panic(fmt.Errorf("abort: %s (line %d)", oneLine(message), uint32(stack[2])))
}

func (in *instance) utf16(ptr uint32) string {
	if ptr < 4 {
		return "no message"
	}
	n, ok := in.mem.ReadUint32Le(ptr - 4)
	if !ok {
		return "unreadable message"
	}
	data, ok := in.mem.Read(ptr, min(n, maxLastWords*2)&^1)
	if !ok {
		return "unreadable message"
	}
	units := make([]uint16, len(data)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(data[2*i:])
	}
	return string(utf16.Decode(units))
}
