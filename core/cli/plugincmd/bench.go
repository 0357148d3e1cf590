package plugincmd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Bounds of a benchmark.
const (
	maxBenchCalls   = 10_000_000
	maxBenchWorkers = 64
	maxBenchObject  = 4 << 20
)

// benchmark are the flags of bench.
type benchmark struct {
	object  string
	calls   int
	workers int
	trusted bool
	output  string
}

// benchRow is what one hook was measured to take.
type benchRow struct {
	Hook      string        `json:"hook"`
	Input     string        `json:"input"`
	Calls     int           `json:"calls"`
	P50       time.Duration `json:"p50_ns"`
	P99       time.Duration `json:"p99_ns"`
	Max       time.Duration `json:"max_ns"`
	PerSecond float64       `json:"per_second"`
	Allocated float64       `json:"allocated_bytes_per_call"` // by the host
	Memory    uint64        `json:"memory_bytes"`             // of the largest instance
	Verdict   string        `json:"verdict"`
}

func (c *command) bench() *cobra.Command {
	b := benchmark{}
	cmd := &cobra.Command{
		Use:   "bench FILE.wasm | NAME",
		Short: "Measure how long an admission plugin takes",
		Long: `Asks the plugin about an object many times, in the sandbox, as the API server
would, and prints how long it took: all that admission costs but the API server's
own work. Without --object, pods of 3 and of 20 containers are asked about. The
object is of the first resource that the plugin's rules name, and its namespace has
the labels that the rule selects. Limits and configuration are those that the
plugin's manifest proposes, even if the lock has others.`,
		Example: `  cleat plugin bench ./my-policy.wasm
  cleat plugin bench admission-baseline --object pod.yaml --workers 8`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := b.check(); err != nil {
				return err
			}
			wasm, err := c.readPlugin(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			rows, err := b.run(cmd.Context(), wasm)
			if err != nil {
				return fmt.Errorf("%s: %w", args[0], err)
			}
			if b.output == "json" {
				return writeJSON(cmd.OutOrStdout(), rows)
			}
			return printBench(cmd.OutOrStdout(), rows)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&b.object, "object", "", "YAML or JSON file with the object to ask about")
	flags.IntVar(&b.calls, "calls", 20_000, "calls of each hook")
	flags.IntVar(&b.workers, "workers", 1, "calls at once")
	flags.BoolVar(&b.trusted, "trusted", false, "measure as if the lock said trusted = true: without the meter")
	flags.StringVarP(&b.output, "output", "o", "table", "table or json")
	return cmd
}

func (b *benchmark) check() error {
	if err := checkOutput(b.output, "table"); err != nil {
		return err
	}
	if b.calls < 1 || b.calls > maxBenchCalls {
		return fmt.Errorf("--calls %d must be 1 to %d", b.calls, maxBenchCalls)
	}
	if b.workers < 1 || b.workers > maxBenchWorkers {
		return fmt.Errorf("--workers %d must be 1 to %d", b.workers, maxBenchWorkers)
	}
	return nil
}

func (b *benchmark) run(ctx context.Context, wasm []byte) (rows []benchRow, err error) {
	text, bundle, err := pluginhost.LockAlone(wasm)
	if err != nil {
		return nil, err
	}
	lock, err := pluginhost.ParseLock(text)
	if err != nil {
		return nil, err
	}
	locked := &lock.Plugins[0]
	locked.Trusted, locked.Limits.PoolMax = b.trusted, max(locked.Limits.PoolMax, b.workers)
	if text, err = lock.Marshal(); err != nil {
		return nil, err
	}
	ins, err := pluginhost.Inspect(wasm)
	if err != nil {
		return nil, err
	}
	if ins.Manifest.Admission == nil {
		return nil, errors.New("it is no admission plugin; at other points a plugin is asked once in a while, and its speed matters little")
	}
	objects, err := b.objects()
	if err != nil {
		return nil, err
	}
	host, err := pluginhost.Open(ctx, pluginhost.Options{Lock: text, Embedded: bundle})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, host.Close(context.WithoutCancel(ctx))) }()
	for _, o := range objects {
		req, err := benchRequest(ins.Manifest.Admission.Rules[0], o.object)
		if err != nil {
			return nil, err
		}
		for _, hook := range []struct {
			name  string
			wants bool
			ask   func(context.Context, *extension.AdmissionRequest) (extension.AdmissionResult, error)
		}{{"mutate", ins.Manifest.Admission.Mutate, host.Mutate}, {"validate", ins.Manifest.Admission.Validate, host.Validate}} {
			if !hook.wants {
				continue
			}
			row, err := b.measure(ctx, host, req, hook.ask)
			if err != nil {
				return nil, err
			}
			row.Hook, row.Input = hook.name, o.name
			rows = append(rows, row)
		}
	}
	return rows, nil
}

type benchObject struct {
	name   string
	object map[string]any
}

func (b *benchmark) objects() ([]benchObject, error) {
	if b.object == "" {
		return []benchObject{{"pod of 3 containers", benchPod(3)}, {"pod of 20 containers", benchPod(20)}}, nil
	}
	text, err := pluginhost.ReadFile(b.object, maxBenchObject)
	if err != nil {
		return nil, err
	}
	plain, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.object, err)
	}
	value, err := hostabi.ParseJSON(plain)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", b.object, err)
	}
	object, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: is not an object", b.object)
	}
	return []benchObject{{b.object, object}}, nil
}

func benchPod(containers int) map[string]any {
	list := make([]any, containers)
	for i := range list {
		list[i] = map[string]any{"name": fmt.Sprintf("c%d", i), "image": fmt.Sprintf("registry.local/team/app-%d:1.2.3", i)}
	}
	return map[string]any{"apiVersion": "v1", "kind": "Pod",
		"metadata": map[string]any{"name": "bench", "namespace": "default", "labels": map[string]any{"team": "red"}},
		"spec":     map[string]any{"containers": list}}
}

// benchRequest is a CREATE that the rule matches, as far as that can be told.
func benchRequest(rule hostabi.MatchRule, object map[string]any) (*extension.AdmissionRequest, error) {
	first := func(values []string, otherwise string) string {
		if len(values) == 0 || values[0] == "*" {
			return otherwise
		}
		return values[0]
	}
	labels := map[string]string{}
	if s := rule.NamespaceSelector; s != nil {
		for k, v := range s.MatchLabels {
			labels[k] = v
		}
		for _, e := range s.MatchExpressions {
			if len(e.Values) > 0 && e.Operator == hostabi.LabelIn {
				labels[e.Key] = e.Values[0]
			} else if e.Operator == hostabi.LabelExists {
				labels[e.Key] = ""
			}
		}
	}
	operation := rule.Operations[0]
	if operation == "*" {
		operation = hostabi.OperationCreate
	}
	kind, _ := object["kind"].(string)
	return &extension.AdmissionRequest{
		ID: "bench", Operation: operation, Group: first(rule.APIGroups, ""), Version: first(rule.APIVersions, "v1"), Kind: kind,
		Resource: first(rule.Resources, "pods"), Namespace: "default", Name: "bench", UserName: "bench",
		Object:          func() (map[string]any, error) { return object, nil },
		OldObject:       func() (map[string]any, error) { return nil, nil },
		NamespaceLabels: func() (map[string]string, error) { return labels, nil },
	}, nil
}

func (b *benchmark) measure(ctx context.Context, host *pluginhost.Host, req *extension.AdmissionRequest,
	ask func(context.Context, *extension.AdmissionRequest) (extension.AdmissionResult, error)) (benchRow, error) {
	verdict := ""
	for range min(b.calls, 1000) { // warm
		result, err := ask(ctx, req)
		if err != nil {
			return benchRow{}, err
		}
		switch {
		case !result.Allowed && result.Code == 500:
			return benchRow{}, errors.New(result.Message)
		case !result.Allowed:
			verdict = "deny: " + result.Message
		case result.Object != nil:
			verdict = "mutate"
		default:
			verdict = "allow"
		}
	}
	entered := host.Stats()[0].Calls
	times := make([][]time.Duration, b.workers)
	errs := make([]error, b.workers)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	begin := time.Now()
	var wg sync.WaitGroup
	for w := range times {
		n := b.calls / b.workers
		if w < b.calls%b.workers {
			n++
		}
		times[w] = make([]time.Duration, 0, n)
		wg.Go(func() {
			for range n {
				start := time.Now()
				if _, err := ask(ctx, req); err != nil {
					errs[w] = err
					return
				}
				times[w] = append(times[w], time.Since(start))
			}
		})
	}
	wg.Wait()
	spent := time.Since(begin)
	runtime.ReadMemStats(&after)
	if err := errors.Join(errs...); err != nil {
		return benchRow{}, err
	}
	all := slices.Concat(times...)
	slices.Sort(all)
	stats := host.Stats()[0]
	if stats.Calls == entered {
		verdict += ", without entering the plugin: no rule matches the object"
	}
	return benchRow{Calls: len(all), P50: all[len(all)/2], P99: all[len(all)*99/100], Max: all[len(all)-1],
		PerSecond: float64(len(all)) / spent.Seconds(), Allocated: float64(after.TotalAlloc-before.TotalAlloc) / float64(len(all)),
		Memory: stats.MemoryPeak, Verdict: verdict}, nil
}

func printBench(w io.Writer, rows []benchRow) error {
	table := tabwriter.NewWriter(w, 0, 8, 3, ' ', 0)
	p := &printer{w: table}
	p.linef("HOOK\tINPUT\tP50\tP99\tMAX\tCALLS/S\tHOST BYTES/CALL\tGUEST MEMORY\tVERDICT")
	for _, r := range rows {
		p.linef("%s\t%s\t%s\t%s\t%s\t%.0f\t%.0f\t%.1f MiB\t%s", r.Hook, r.Input, r.P50, r.P99, r.Max.Round(time.Microsecond),
			r.PerSecond, r.Allocated, float64(r.Memory)/(1<<20), r.Verdict)
	}
	if p.err != nil {
		return p.err
	}
	return table.Flush()
}
