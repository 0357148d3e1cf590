package pluginhost

import (
	"testing"

	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
)

func TestSpans(t *testing.T) {
	spans := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))
	h := lockOf(t, hook("works", guesttest.I32(0)).Wasm(), hook("crashes", guesttest.Trap()).Wasm()).open(t)
	if _, err := h.Validate(t.Context(), pod()); err != nil || len(spans.Ended()) != 0 {
		t.Errorf("%v, %d spans of a request that is not traced", err, len(spans.Ended()))
	}
	ctx, parent := provider.Tracer("test").Start(t.Context(), "request")
	if _, err := h.Validate(ctx, pod()); err != nil {
		t.Fatal(err)
	}
	ended := spans.Ended()
	if len(ended) != 2 || ended[0].Name() != "plugin works" || ended[1].Status().Code != codes.Error ||
		ended[0].Parent().SpanID() != parent.SpanContext().SpanID() {
		t.Errorf("spans %+v", ended)
	}
}
