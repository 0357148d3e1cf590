package conformance

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// startChecks start instances and ask them nothing.
func startChecks() []check {
	starts := []string{"core/init-succeeds"}
	return []check{
		core("core/compiles", "The plugin ABI",
			"The code is valid WebAssembly, of the proposals the host supports.", []string{"core/host-accepts"}, checkCompiles),
		core("core/initialize", "The plugin ABI",
			"_initialize, if the plugin exports it, returns.", []string{"core/compiles"}, checkInitialize),
		core("core/init-succeeds", "cleat_init",
			"cleat_init returns 0.", []string{"core/initialize"}, checkInit),
		core("core/init-is-repeatable", "cleat_init",
			"cleat_init is called once for each instance, at any time, and succeeds each time.", starts, checkInitRepeatable),
		extended("core/default-config-works", "config_get",
			"The plugin starts without any configuration, with the defaults of its manifest.", starts, checkDefaultConfig),
		core("core/bad-config-refused", "error_set",
			"A configuration that makes no sense is accepted, or refused by a negative result of cleat_init after error_set said why; it is no reason to crash.",
			starts, checkBadConfig),
	}
}

// checkCompiles starts the plugin for the first time; the checks after it tell
// how far that went.
func checkCompiles(ctx context.Context, s *subject) (finding, error) {
	g, fault, err := s.open(ctx, start{})
	switch {
	case ctx.Err() != nil:
		return finding{}, ctx.Err()
	case err != nil:
		return failed("%v", err)
	case fault != nil:
		s.started = fault
	default:
		if err := g.close(); err != nil {
			return finding{}, err
		}
	}
	return passed("was compiled")
}

func checkInitialize(_ context.Context, s *subject) (finding, error) {
	var fault *pluginhost.Fault
	if errors.As(s.started, &fault) && fault.Hook != hostabi.ExportInit {
		return failed("%s: %s", fault.Hook, fault.Detail)
	}
	if !s.exports(hostabi.ExportInitialize) {
		return inapplicable("does not export %s", hostabi.ExportInitialize)
	}
	return passed("%s returned", hostabi.ExportInitialize)
}

func (s *subject) exports(name string) bool {
	for _, e := range s.file.Exports {
		if e.Name == name {
			return true
		}
	}
	return false
}

func checkInit(_ context.Context, s *subject) (finding, error) {
	var fault *pluginhost.Fault
	if errors.As(s.started, &fault) {
		return failed("%s: %s", fault.Hook, fault.Detail)
	}
	return passed("started")
}

func checkInitRepeatable(ctx context.Context, s *subject) (finding, error) {
	for _, later := range []time.Duration{time.Nanosecond, time.Second, 24 * time.Hour} {
		g, fault, err := s.open(ctx, start{later: later})
		switch {
		case err != nil:
			return finding{}, err
		case fault != nil:
			return failed("started once, and not again %s later: %s", later, fault.Detail)
		}
		// The host of a hot plugin has one instance already; this is the next.
		err = g.Probe(ctx)
		if errors.As(err, &fault) {
			err = g.close()
			if err == nil {
				return failed("started once, and no second instance beside it: %s", fault.Detail)
			}
		}
		if err = errors.Join(err, g.close()); err != nil {
			return finding{}, err
		}
	}
	return passed("started each time")
}

func checkDefaultConfig(ctx context.Context, s *subject) (finding, error) {
	return s.with(ctx, start{defaults: true}, func(*guest) (finding, error) {
		return passed("started with its defaults")
	})
}

// checkBadConfig gives each key of the schema the odd values of its type.
func checkBadConfig(ctx context.Context, s *subject) (finding, error) {
	if len(s.manifest.ConfigSchema) == 0 {
		return inapplicable("has no configuration")
	}
	refused, tried := 0, 0
	for _, key := range slices.Sorted(maps.Keys(s.manifest.ConfigSchema)) {
		for _, odd := range oddValues(s.manifest.ConfigSchema[key].Type) {
			config := maps.Clone(s.config)
			if config == nil {
				config = map[string]any{}
			}
			config[key] = odd.value
			g, fault, err := s.open(ctx, start{config: config})
			tried++
			switch {
			case err != nil:
				return finding{}, err
			case fault == nil:
				if err := g.close(); err != nil {
					return finding{}, err
				}
			case crashed(fault):
				return failed("with %s %s: crashed in %s: %s", key, odd.name, fault.Hook, fault.Detail)
			case !explained(fault):
				return failed("with %s %s: %s said nothing and %s", key, odd.name, fault.Hook, fault.Detail)
			default:
				refused++
			}
		}
	}
	return passed("refused %d of %d odd configurations, each with a reason", refused, tried)
}

// crashed tells a start that trapped from one that was refused. What a guest
// returns becomes a plain error; what the runtime says is one of its own.
func crashed(fault *pluginhost.Fault) bool {
	return strings.HasPrefix(fault.Detail, "wasm error:") || strings.HasPrefix(fault.Detail, "module closed") ||
		strings.HasPrefix(fault.Detail, "abort:")
}

// explained reports whether a refused start has a reason beside its number.
func explained(fault *pluginhost.Fault) bool {
	return !strings.HasPrefix(fault.Detail, "returned -")
}

type oddValue struct {
	name  string
	value any
}

// oddValues are values of a type that few plugins have a use for.
func oddValues(t hostabi.ConfigType) []oddValue {
	long := strings.Repeat("x", 20_000)
	switch t {
	case hostabi.ConfigString:
		return []oddValue{{"empty", ""}, {"of one space", " "}, {"of 20000 letters", long}, {"with other letters", "\u00e4\u4e16\U0001f40b\u0000\"\\"}}
	case hostabi.ConfigBool:
		return []oddValue{{"true", true}, {"false", false}}
	case hostabi.ConfigInteger:
		return []oddValue{{"0", int64(0)}, {"-1", int64(-1)}, {"the least integer", int64(-1 << 63)}, {"the greatest integer", int64(1<<63 - 1)}}
	case hostabi.ConfigStrings:
		return []oddValue{{"empty", []any{}}, {"of one empty text", []any{""}}, {"of two equal texts", []any{"a", "a"}}, {"of 20000 letters", []any{long}}}
	case hostabi.ConfigMap:
		return []oddValue{{"empty", map[string]any{}}, {"with an empty key", map[string]any{"": ""}}, {"of 20000 letters", map[string]any{"a": long}}}
	}
	return nil
}
