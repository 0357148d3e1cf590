package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"
)

// program is a compiled plugin with its host functions linked, ready to be
// instantiated. It counts its users: whoever acquired it last and releases it
// frees the machine code.
type program struct {
	runtime  wazero.Runtime
	compiled wazero.CompiledModule

	mu    sync.Mutex
	users int
}

// compileSpec is how a plugin is compiled. It is the one place where that is
// decided, when the bundle is precompiled and when a server opens it.
type compileSpec struct {
	cache    wazero.CompilationCache
	pages    uint32           // memory limit; not part of the code
	trusted  bool             // no meter, see metered
	features api.CoreFeatures // what the module may use; not part of the code
	granted  []string         // capabilities whose functions may be linked
}

func (s compileSpec) runtime(ctx context.Context) wazero.Runtime {
	return wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCoreFeatures(s.features).
		WithDebugInfoEnabled(false).
		WithCustomSections(false).
		WithMemoryLimitPages(s.pages).
		WithCompilationCache(s.cache))
}

// hostFunc is a host function: parameters come in stack, the result goes to
// stack[0].
type hostFunc func(in *instance, stack []uint64)

// openProgram compiles the module, or takes its code from the cache, and links
// the host functions it imports.
func openProgram(ctx context.Context, spec compileSpec, module []byte) (_ *program, err error) {
	r := spec.runtime(ctx)
	defer func() {
		if err != nil {
			err = errors.Join(err, r.Close(context.WithoutCancel(ctx)))
		}
	}()
	compiled, err := compile(ctx, r, module)
	if err != nil {
		return nil, err
	}
	if err := link(ctx, r, compiled.ImportedFunctions(), spec.granted); err != nil {
		return nil, err
	}
	return &program{runtime: r, compiled: compiled, users: 1}, nil
}

func compile(ctx context.Context, r wazero.Runtime, module []byte) (wazero.CompiledModule, error) {
	compiled, err := r.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), module)
	if err != nil {
		return nil, fmt.Errorf("compile: %w", err)
	}
	return compiled, nil
}

// runnable is the module as it is compiled: with the meter in it, unless the
// plugin is trusted. That one has to pass the meter's checks as well.
func runnable(wasm []byte, trusted bool) ([]byte, error) {
	with, without, err := metered(wasm)
	if err != nil {
		return nil, fmt.Errorf("meter: %w", err)
	}
	if trusted {
		return without, nil
	}
	return with, nil
}

// link gives the runtime one host module for each import module, holding
// exactly the functions the guest imports.
func link(ctx context.Context, r wazero.Runtime, imports []api.FunctionDefinition, granted []string) error {
	builders := map[string]wazero.HostModuleBuilder{}
	linked := map[[2]string]bool{}
	var order []string
	known := hostFunctions(granted)
	for _, d := range imports {
		module, name, _ := d.Import()
		if linked[[2]string{module, name}] {
			continue
		}
		linked[[2]string{module, name}] = true
		if module == moduleGuard && name == functionTick {
			_, err := r.NewHostModuleBuilder(module).NewFunctionBuilder().
				WithGoModuleFunction(api.GoModuleFunc(tick), []api.ValueType{api.ValueTypeI64}, []api.ValueType{api.ValueTypeI64}).Export(name).Instantiate(ctx)
			if err != nil {
				return fmt.Errorf("link %s: %w", module, err)
			}
			continue
		}
		f, ok := known[module][name]
		if !ok && module == hostabi.ModuleWASI && stubable(d) {
			f, ok = wasiNosysStub, true
		}
		if !ok {
			return fmt.Errorf("import %s.%s is not granted or does not exist", module, name)
		}
		b := builders[module]
		if b == nil {
			b = r.NewHostModuleBuilder(module)
			builders[module] = b
			order = append(order, module)
		}
		b.NewFunctionBuilder().
			WithGoModuleFunction(adapt(f, heavy(module)), d.ParamTypes(), d.ResultTypes()).
			Export(name)
	}
	for _, module := range order {
		if _, err := builders[module].Instantiate(ctx); err != nil {
			return fmt.Errorf("link %s: %w", module, err)
		}
	}
	return nil
}

// stubable reports whether a WASI function can answer ENOSYS.
func stubable(d api.FunctionDefinition) bool {
	results := d.ResultTypes()
	return len(results) == 1 && results[0] == api.ValueTypeI32
}

// Host calls count as work of the guest: so many calls, or a call that moves so
// many bytes, as much as a refuel.
const (
	callsPerUnit = 64
	heavyCall    = 16 << 10
	unitTime     = 25 * time.Microsecond
)

// heavy reports whether the functions of a module may take long by themselves,
// so that their time is taken.
func heavy(module string) bool {
	return module == hostabi.ModuleRender || module == hostabi.ModuleObjectJSON || module == hostabi.ModuleLookup
}

func adapt(f hostFunc, heavy bool) api.GoModuleFunc {
	return func(ctx context.Context, mod api.Module, stack []uint64) {
		c, ok := ctx.(*callContext)
		if !ok {
			panic(errors.New("host function called outside a hook"))
		}
		in := c.inst
		in.ctx = c
		if in.mem == nil {
			in.mem = mod.Memory()
		}
		in.hostCalls++
		if heavy {
			begin := time.Now()
			f(in, stack)
			c.work(int(time.Since(begin) / unitTime))
			return
		}
		before := in.call.bytes
		f(in, stack)
		if moved := in.call.bytes - before; moved > heavyCall || in.hostCalls%callsPerUnit == 0 {
			c.work(1 + int(moved/heavyCall))
		}
	}
}

// hostFunctions returns the functions of the granted capabilities, by module.
func hostFunctions(granted []string) map[string]map[string]hostFunc {
	all := map[string]map[string]hostFunc{
		hostabi.ModuleCore:       coreFunctions(),
		hostabi.ModuleObject:     objectFunctions(),
		hostabi.ModuleObjectJSON: objectJSONFunctions(),
		hostabi.ModuleRequest:    requestFunctions(),
		hostabi.ModuleRender:     renderFunctions(),
		hostabi.ModuleLookup:     lookupFunctions(),
		hostabi.ModuleKV:         kvFunctions(),
	}
	linkable := map[string]map[string]hostFunc{
		hostabi.ModuleWASI: wasiFunctions(),
		hostabi.ModuleEnv:  envFunctions(),
	}
	for _, g := range granted {
		linkable[g] = all[g]
	}
	return linkable
}

// instantiate makes one instance; the caller has acquired the program.
func (p *program) instantiate(ctx context.Context) (api.Module, error) {
	// No name, so that any number may live side by side; no start functions,
	// because the host calls _initialize itself, under its own deadline.
	return p.runtime.InstantiateModule(ctx, p.compiled, wazero.NewModuleConfig().WithName("").WithStartFunctions())
}

// acquire adds a user; false means that the program is already gone.
func (p *program) acquire() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.users == 0 {
		return false
	}
	p.users++
	return true
}

func (p *program) release() {
	p.mu.Lock()
	p.users--
	last := p.users == 0
	p.mu.Unlock()
	if last {
		// Freeing memory cannot fail in a way anybody could act on.
		ctx := context.Background()
		_ = p.runtime.Close(ctx)
		_ = p.compiled.Close(ctx)
	}
}
