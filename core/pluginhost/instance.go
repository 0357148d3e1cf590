package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// startDeadline bounds _initialize and cleat_init of a new instance, which a
// busy machine may make slow and which no request's deadline should cover.
const startDeadline = 10 * time.Second

// instance is one running copy of a guest. One goroutine uses it at a time.
type instance struct {
	plugin  *plugin
	program *program
	mod     api.Module
	mem     api.Memory
	linear  experimental.LinearMemory // what mem is in
	hooks   [hookCount]api.Function

	paths   []*projection
	pathIDs map[string]int32

	call      *call        // the running hook, nil between hooks
	ctx       *callContext // of the running hook
	callCtx   callContext  // what ctx points to, once the instance is up
	handle    uint32
	hostCalls uint64
	scratch   []byte // reused for encoded values
	stack     [2]uint64
	output    stdio

	rendered, renderedFrom []byte // last render_yaml, for the guest that asks again
	memStart               uint32 // bytes after cleat_init
	broken                 bool   // must not be used again
	worn                   bool   // better not used again: it has worked for long

	seed   [32]byte // of what WASI calls random
	random *rand.ChaCha8
}

// newInstance starts a guest: memory, _initialize, cleat_init. The caller has
// acquired the program; the instance, or newInstance when it fails, releases it.
func (p *plugin) newInstance(ctx context.Context, prog *program) (_ *instance, err error) {
	in := &instance{plugin: p, program: prog, pathIDs: map[string]int32{}, output: stdio{log: p.log}}
	step := "instantiation"
	defer func() {
		if err != nil {
			err = in.startFault(ctx, step, err)
			in.close()
		}
	}()
	cctx := &callContext{Context: withMemory(ctx, &in.linear), inst: in, values: true, deadline: time.Now().Add(startDeadline)}
	in.call = &call{hook: hookInit, begin: p.host.now()}
	if in.mod, err = prog.instantiate(cctx); err != nil {
		return nil, err
	}
	if in.mem = in.mod.ExportedMemory(hostabi.ExportMemory); in.mem == nil {
		return nil, errors.New("the guest exports no memory")
	}
	if initialize := in.mod.ExportedFunction(hostabi.ExportInitialize); initialize != nil {
		step = hostabi.ExportInitialize
		if err = initialize.CallWithStack(cctx, nil); err != nil {
			return nil, err
		}
	}
	step = hostabi.ExportInit
	init := in.mod.ExportedFunction(hostabi.ExportInit)
	if init == nil {
		return nil, errors.New("the guest does not export it")
	}
	if err = init.CallWithStack(cctx, in.stack[:]); err != nil {
		return nil, err
	}
	if e := int32(uint32(in.stack[0])); e != 0 {
		return nil, reason(e, in.call.errText)
	}
	in.call = nil
	in.output.flush()
	for h := hookDatastore; h < hookCount; h++ {
		in.hooks[h] = in.mod.ExportedFunction(h.export())
	}
	in.memStart = in.mem.Size()
	in.notePeak()
	return in, nil
}

// reason is what a guest said about its failure, or what its number means.
func reason(e int32, errText string) error {
	if errText != "" {
		return errors.New(errText)
	}
	return errors.New(errnoText(e))
}

// startFault explains why the instance did not come up at that step.
func (in *instance) startFault(ctx context.Context, step string, err error) error {
	p := in.plugin
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("plugin %s: %s: %w", p.locked.Name, step, cause)
	}
	f := &Fault{Plugin: p.locked.Name, Hook: step, Kind: FaultStart, Err: err, Detail: firstLine(err.Error())}
	if words := in.output.lastWords(); words != "" {
		f.Detail += "; it last wrote: " + words
	}
	f.Advice = "check its config and limits.memory_pages in plugins.lock, or run `cleat plugin verify`"
	p.log.Debug("plugin instance did not start", "step", step, "error", err)
	return f
}

// run calls a hook under the plugin's deadline.
func (in *instance) run(ctx context.Context, c *call) (int32, error) {
	p := in.plugin
	fn := in.hooks[c.hook]
	if fn == nil {
		return 0, &Fault{Plugin: p.locked.Name, Hook: c.hook.export(), Kind: FaultStart, Detail: "the guest does not export it"}
	}
	if err := ctx.Err(); err != nil {
		return 0, fmt.Errorf("plugin %s: %s: %w", p.locked.Name, c.hook.export(), err)
	}
	in.handle = in.handle%maxHandle + 1
	c.handle = in.handle
	if c.hook.admission() {
		in.stack = [2]uint64{uint64(c.handle), c.rules}
	}
	in.call, in.hostCalls = c, 0
	begin := time.Now()
	if c.begin = begin; p.host.clock != nil {
		c.begin = p.host.clock()
	}
	in.output.reset()
	in.callCtx = callContext{Context: ctx, inst: in, deadline: begin.Add(p.deadline)}
	err := fn.CallWithStack(&in.callCtx, in.stack[:])
	spent := time.Since(begin)
	in.call, in.callCtx.Context = nil, nil
	in.output.flush()

	c.instance = in.seed
	p.stats.calls.Add(1)
	p.stats.latency.observe(spent)
	p.stats.hostCalls.Add(in.hostCalls)
	p.stats.bytes.Add(c.bytes)
	in.notePeak()
	// Who works so long may have grown its stack, which is outside its memory
	// and never shrinks.
	in.broken = err != nil
	in.worn = in.callCtx.ticks > graceTicks
	if err == nil && in.callCtx.late(begin.Add(spent)) {
		err = errLate() // in its last host call
	}
	if err != nil {
		return 0, p.faultOf(ctx, c.hook.export(), err, in.output.lastWords())
	}
	return int32(uint32(in.stack[0])), nil
}

// maxHandle keeps handles positive as an i32.
const maxHandle = 1<<31 - 2

func (in *instance) notePeak() {
	size := uint64(in.mem.Size())
	for {
		peak := in.plugin.stats.memoryPeak.Load()
		if size <= peak || in.plugin.stats.memoryPeak.CompareAndSwap(peak, size) {
			return
		}
	}
}

// healthy reports whether the instance may serve another call. Linear memory
// never shrinks, so one that came close to its limit is replaced.
func (in *instance) healthy() bool {
	if in.broken || in.worn || in.mod.IsClosed() {
		return false
	}
	limit := uint64(in.plugin.locked.Limits.MemoryPages) * pageSize
	start := uint64(in.memStart)
	return uint64(in.mem.Size()) <= start+(limit-min(start, limit))/4*3
}

const pageSize = 64 << 10

func (in *instance) close() {
	if in.mod != nil {
		// Closing frees memory only; there is nothing to report.
		_ = in.mod.Close(context.Background())
	}
	if in.linear != nil {
		in.linear.Free()
	}
	in.program.release()
}
