package conformance

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
)

// Option changes what is checked.
type Option func(*options)

type options struct {
	config   map[string]any
	cases    []Case
	host     string
	extended bool
	renderer extension.Renderer
}

// WithConfig gives the plugin that configuration, in the shape of decoded JSON
// or TOML. Without it the plugin has its defaults.
func WithConfig(config map[string]any) Option {
	return func(o *options) { o.config = config }
}

// WithCases adds what the author knows about the plugin: each case must come
// out as it says, and what it asks takes part in the other checks.
func WithCases(cases ...Case) Option {
	return func(o *options) { o.cases = append(o.cases, cases...) }
}

// WithRenderer renders charts and kustomizations for deployers that ask for it.
// Without it they are told that it cannot be done.
func WithRenderer(renderer extension.Renderer) Option {
	return func(o *options) { o.renderer = renderer }
}

// WithHostVersion says which cleat this is, for the report.
func WithHostVersion(version string) Option {
	return func(o *options) { o.host = version }
}

// WithExtended makes Run fail for checks of the extended profile too.
func WithExtended() Option {
	return func(o *options) { o.extended = true }
}

func resolve(opts []Option) options {
	o := options{host: buildVersion(), renderer: noRenderer{}}
	for _, opt := range opts {
		opt(&o)
	}
	return o
}

// modulePath is the module this package is part of.
const modulePath = "github.com/cleat-dev/cleat"

// buildVersion is the version of the host that this program was built with.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, m := range append(info.Deps, &info.Main) {
		if m.Path == modulePath && m.Version != "" {
			return m.Version
		}
	}
	return "unknown"
}

// Check runs every check that applies to the plugin. The error is not about the
// plugin: ctx ended, or the machine does not let the host work.
func Check(ctx context.Context, wasm []byte, opts ...Option) (Report, error) {
	report, err := newReport(ctx, wasm, resolve(opts), func(_ string, run func() Entry) { run() })
	if err != nil {
		return Report{}, err
	}
	return report, nil
}

// T is the part of *testing.T that Run uses; F is *testing.T itself.
type T[F any] interface {
	Helper()
	Context() context.Context
	Run(name string, f func(F)) bool
	Log(args ...any)
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

// Run runs every check as a subtest of t. A check of the extended profile that
// failed is logged, unless WithExtended is among the options. The report is
// returned for tests that want to keep it.
func Run[F T[F]](t F, wasm []byte, opts ...Option) Report {
	t.Helper()
	o := resolve(opts)
	report, err := newReport(t.Context(), wasm, o, func(id string, run func() Entry) {
		ran := false
		t.Run(id, func(t F) {
			t.Helper()
			ran = true
			e := run()
			if e.Result == Fail && (e.Profile == ProfileCore || o.extended) {
				t.Errorf("the ABI demands: %s\nthe plugin: %s", e.Demand, e.Did)
				return
			}
			t.Log(string(e.Result) + ": " + e.Did)
		})
		if !ran { // go test -run left it out, but others may need it
			run()
		}
	})
	if err != nil {
		t.Fatalf("%v", err)
	}
	return report
}

// newReport hands each check to each, which runs it.
func newReport(ctx context.Context, wasm []byte, o options, each func(id string, run func() Entry)) (_ Report, err error) {
	dir, err := os.MkdirTemp("", "cleat-conformance-")
	if err != nil {
		return Report{}, fmt.Errorf("directory for compiled code: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	s := &subject{wasm: wasm, options: o, cache: dir}
	defer func() { err = errors.Join(err, s.stop()) }()
	report := Report{
		Format: ReportFormat,
		Host:   ReportHost{Version: o.host, ABI: fmt.Sprintf("%d.%d", hostabi.ABIMajor, hostabi.ABIMinor)},
		Plugin: ReportPlugin{SHA256: pluginhost.Digest(wasm), Points: []hostabi.Point{}},
	}
	if report.Input, err = inputDigest(o); err != nil {
		return Report{}, err
	}
	err = runChecks(ctx, s, checks(), func(c check, run func() finding) {
		each(c.ID, func() Entry {
			found := run()
			e := Entry{ID: c.ID, Profile: c.Profile, Point: c.Point, Demand: c.Demand, Section: c.Section, Result: found.result, Did: found.did}
			report.Checks = append(report.Checks, e)
			return e
		})
	})
	if err != nil {
		return Report{}, err
	}
	report.describe(s.manifest)
	report.count()
	return report, nil
}

// inputDigest is the digest of configuration and cases, "" without either.
func inputDigest(o options) (string, error) {
	if len(o.config) == 0 && len(o.cases) == 0 {
		return "", nil
	}
	text, err := hostabi.AppendJSON(nil, map[string]any{"config": o.config, "cases": o.cases})
	if err != nil {
		return "", fmt.Errorf("configuration and cases: %w", err)
	}
	return pluginhost.Digest(text), nil
}
