package pluginhost

import (
	"encoding/binary"
	"math/rand/v2"
	"time"

	"github.com/tetratelabs/wazero/sys"
)

// WASI error numbers the subset answers with.
const (
	wasiSuccess = 0
	wasiBadf    = 8
	wasiFault   = 21
	wasiInval   = 28
	wasiNosys   = 52
)

const (
	maxRandom   = 64 << 10
	maxIovecs   = 1024
	clockMonoID = 1
)

// wasiFunctions returns the WASI subset: output, clock, random numbers, no
// arguments, no environment, no files. Every other WASI function a guest
// imports answers ENOSYS.
func wasiFunctions() map[string]hostFunc {
	return map[string]hostFunc{
		"fd_write":          wasiWrite,
		"clock_time_get":    wasiClock,
		"random_get":        wasiRandom,
		"args_sizes_get":    wasiNoneSizes,
		"args_get":          wasiNone,
		"environ_sizes_get": wasiNoneSizes,
		"environ_get":       wasiNone,
		"sched_yield":       wasiNone,
		"poll_oneoff":       wasiPoll,
		// Runtimes look for preopened directories until they are told that the
		// descriptor does not exist; "not implemented" would make them give up.
		"fd_prestat_get": wasiBadDescriptor,
		"fd_fdstat_get":  wasiStat,
		"fd_close":       wasiBadDescriptor,
		"proc_exit":      wasiExit,
	}
}

func wasiNosysStub(_ *instance, stack []uint64) {
	if len(stack) > 0 {
		stack[0] = wasiNosys
	}
}

func wasiNone(_ *instance, stack []uint64) { stack[0] = wasiSuccess }

func wasiBadDescriptor(_ *instance, stack []uint64) { stack[0] = wasiBadf }

// wasiNoneSizes answers "none" to a question for a count and a size.
func wasiNoneSizes(in *instance, stack []uint64) {
	count, size := uint32(stack[0]), uint32(stack[1])
	if !in.mem.WriteUint32Le(count, 0) || !in.mem.WriteUint32Le(size, 0) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

func wasiWrite(in *instance, stack []uint64) {
	fd, iovecs, count, written := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if fd != 1 && fd != 2 {
		stack[0] = wasiBadf
		return
	}
	if count > maxIovecs {
		stack[0] = wasiInval
		return
	}
	list, ok := in.mem.Read(iovecs, 8*count)
	if !ok {
		stack[0] = wasiFault
		return
	}
	total := uint32(0)
	for ; len(list) > 0; list = list[8:] {
		data, ok := in.mem.Read(binary.LittleEndian.Uint32(list), binary.LittleEndian.Uint32(list[4:]))
		if !ok {
			stack[0] = wasiFault
			return
		}
		in.output.write(fd, data)
		total += uint32(len(data))
	}
	if !in.mem.WriteUint32Le(written, total) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// wasiClock reads the wall clock, or for any other clock time since the host
// was opened.
func wasiClock(in *instance, stack []uint64) {
	id, result := uint32(stack[0]), uint32(stack[2])
	now := in.plugin.host.now()
	nanos := now.UnixNano()
	if id >= clockMonoID {
		nanos = monotonic(in, now)
	}
	if !in.mem.WriteUint64Le(result, uint64(nanos)) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// monotonic is time since the host was opened; never 0, at which Go's runtime
// gives up.
func monotonic(in *instance, now time.Time) int64 {
	return int64(now.Sub(in.plugin.host.opened)) + 1
}

func wasiRandom(in *instance, stack []uint64) {
	ptr, n := uint32(stack[0]), uint32(stack[1])
	if n > maxRandom {
		stack[0] = wasiInval
		return
	}
	buf, ok := in.mem.Read(ptr, n)
	if !ok {
		stack[0] = wasiFault
		return
	}
	if in.random == nil {
		in.seed = in.plugin.host.seed()
		in.random = rand.NewChaCha8(in.seed)
	}
	_, _ = in.random.Read(buf) // never fails
	stack[0] = wasiSuccess
}

// wasiStat describes descriptors 0 to 2 as character devices without rights,
// so that a runtime does not look further.
func wasiStat(in *instance, stack []uint64) {
	fd, result := uint32(stack[0]), uint32(stack[1])
	if fd > 2 {
		stack[0] = wasiBadf
		return
	}
	var stat [24]byte
	stat[0] = 2 // character device
	if !in.mem.Write(result, stat[:]) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// Layout of poll_oneoff's subscriptions and events.
const (
	subscriptionSize = 48
	eventSize        = 32
	maxSubscriptions = 64
	pollClock        = 0
	pollAbsolute     = 1
)

// wasiPoll lets a guest sleep: it waits for the first clock among the
// subscriptions, at most until the deadline of the call. A descriptor is
// ready at once, with an error.
func wasiPoll(in *instance, stack []uint64) {
	subs, events, n, result := uint32(stack[0]), uint32(stack[1]), uint32(stack[2]), uint32(stack[3])
	if n == 0 || n > maxSubscriptions {
		stack[0] = wasiInval
		return
	}
	list, ok := in.mem.Read(subs, n*subscriptionSize)
	if !ok {
		stack[0] = wasiFault
		return
	}
	first, wait := 0, time.Duration(-1)
	kind, errno := byte(pollClock), uint16(wasiSuccess)
	for i := range int(n) {
		s := list[i*subscriptionSize:]
		w := time.Duration(0)
		if s[8] == pollClock {
			w = clockWait(in, s[16:])
		}
		if wait < 0 || w < wait {
			first, wait, kind = i, w, s[8]
		}
	}
	if kind != pollClock {
		errno = wasiBadf
	}
	if wait > 0 {
		in.sleep(wait)
	}
	var event [eventSize]byte
	copy(event[:8], list[first*subscriptionSize:])
	binary.LittleEndian.PutUint16(event[8:], errno)
	event[10] = kind
	if !in.mem.Write(events, event[:]) || !in.mem.WriteUint32Le(result, 1) {
		stack[0] = wasiFault
		return
	}
	stack[0] = wasiSuccess
}

// clockWait is how long a clock subscription asks to wait, never negative.
func clockWait(in *instance, clock []byte) time.Duration {
	id := binary.LittleEndian.Uint32(clock)
	timeout := binary.LittleEndian.Uint64(clock[8:])
	nanos := int64(min(timeout, 1<<62))
	if binary.LittleEndian.Uint16(clock[24:])&pollAbsolute != 0 {
		now := in.plugin.host.now()
		if id >= clockMonoID {
			nanos -= monotonic(in, now)
		} else {
			nanos -= now.UnixNano()
		}
	}
	return time.Duration(max(nanos, 0))
}

// wasiExit ends the call; wazero turns the panic into the call's error.
func wasiExit(_ *instance, stack []uint64) {
	panic(sys.NewExitError(uint32(stack[0])))
}
