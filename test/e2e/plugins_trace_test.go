//go:build e2e

package e2e

import (
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	trace "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	tracingConfig = "/etc/cleat/tracing.yaml"
	tracingPort   = 4317
	pluginScope   = "cleat.dev/pluginhost"
)

// span is what a test looks at in a span.
type span struct {
	Name, Trace, ID, Parent string
	Attributes              map[string]string
	Error                   string // "" unless the status is an error
	begin                   uint64
}

func (s span) String() string {
	return fmt.Sprintf("%q %v error %q", s.Name, s.Attributes, s.Error)
}

// traces is an OTLP collector that keeps the spans of created pods and of plugins.
type traces struct {
	collector.UnimplementedTraceServiceServer

	mu      sync.Mutex
	creates map[string]span   // by audit ID
	calls   map[string][]span // of plugins, by trace
}

// collectTraces makes a collector inside the machine's network and returns it with
// the arguments of a server that sends it the spans of every request.
func collectTraces(t *testing.T, n *node) (*traces, []string) {
	t.Helper()
	c := &traces{creates: map[string]span{}, calls: map[string][]span{}}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, c)
	listener := n.Listen(t, tracingPort)
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-ended; err != nil {
			t.Errorf("the trace collector: %v", err)
		}
	})
	n.WriteFile(t, tracingConfig, fmt.Sprintf(`apiVersion: apiserver.config.k8s.io/v1
kind: TracingConfiguration
endpoint: %s
samplingRatePerMillion: 1000000
`, listener.Addr()))
	return c, []string{"--kube-apiserver-arg", "tracing-config-file=" + tracingConfig}
}

// Export implements collector.TraceServiceServer.
func (c *traces) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range req.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				c.keep(scope.GetScope().GetName(), s)
			}
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

func (c *traces) keep(scope string, s *trace.Span) {
	if scope != pluginScope && s.GetName() != "Create" {
		return // a server that records everything sends a great many
	}
	kept := span{
		Name: s.GetName(), Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()),
		Parent: hex.EncodeToString(s.GetParentSpanId()), Attributes: map[string]string{}, begin: s.GetStartTimeUnixNano(),
	}
	for _, a := range s.GetAttributes() {
		kept.Attributes[a.GetKey()] = attributeText(a.GetValue())
	}
	if s.GetStatus().GetCode() == trace.Status_STATUS_CODE_ERROR {
		kept.Error = s.GetStatus().GetMessage()
	}
	if scope == pluginScope {
		c.calls[kept.Trace] = append(c.calls[kept.Trace], kept)
	} else if id := kept.Attributes["audit-id"]; id != "" && kept.Attributes["resource"] == "pods" {
		c.creates[id] = kept
	}
}

func attributeText(v *common.AnyValue) string {
	if v, ok := v.GetValue().(*common.AnyValue_IntValue); ok {
		return strconv.FormatInt(v.IntValue, 10)
	}
	return v.GetStringValue()
}

// callsOf returns the spans of the plugin calls below the request with that
// audit ID, in the order they began.
func (c *traces) callsOf(auditID string) ([]span, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	request, ok := c.creates[auditID]
	if !ok {
		return nil, fmt.Errorf("no span of request %s among %d", auditID, len(c.creates))
	}
	calls := slices.Clone(c.calls[request.Trace])
	for _, call := range calls {
		if call.Parent != request.ID {
			return nil, fmt.Errorf("%v is below span %s, want that of the request, %s", call, call.Parent, request.ID)
		}
	}
	slices.SortFunc(calls, func(a, b span) int { return cmp.Compare(a.begin, b.begin) })
	return calls, nil
}

// wantCalls wants one span for each call of admission-baseline during a request;
// each of want is "version hook result", with an empty result for a fault.
func (c *traces) wantCalls(t *testing.T, e auditEvent, want ...string) []span {
	t.Helper()
	var calls []span
	lab.Eventually(t, podPatience, "the spans of pod "+e.ObjectRef.Name, func() error {
		var err error
		if calls, err = c.callsOf(e.AuditID); err != nil {
			return err
		}
		var got []string
		for _, s := range calls {
			if s.Name != "plugin admission-baseline" || s.Attributes["cleat.plugin"] != "admission-baseline" || s.Attributes["cleat.plugin.generation"] == "" {
				return fmt.Errorf("a span that is not as it should be: %v", s)
			}
			got = append(got, s.Attributes["cleat.plugin.version"]+" "+s.Attributes["cleat.plugin.hook"]+" "+s.Attributes["cleat.plugin.result"])
		}
		if !slices.Equal(got, want) {
			return fmt.Errorf("got the calls %q, want %q", got, want)
		}
		return nil
	})
	for _, s := range calls {
		t.Logf("span of %s/%s: %v", e.ObjectRef.Namespace, e.ObjectRef.Name, s)
	}
	return calls
}

// testPluginTraces wants a span for every call of a hook in the trace of the
// request, and tells the request by the ID that its audit event has too.
func testPluginTraces(t *testing.T, n *node, c *traces) {
	if err := try(n, "enforced", "traced", true); !refused(err) {
		t.Errorf("got %v, want a refusal", err)
	}
	for _, s := range c.wantCalls(t, audited(t, n, "enforced", "traced"), "0.1.0 cleat_admission_mutate 0", "0.1.0 cleat_admission_validate 1") {
		if s.Error != "" {
			t.Errorf("a verdict is no error: %v", s)
		}
	}
}
