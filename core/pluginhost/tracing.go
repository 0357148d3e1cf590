package pluginhost

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// tracer is the name of the spans' instrumentation scope.
const tracer = "cleat.dev/pluginhost"

// trace begins a span for a call when the request that caused it is traced;
// done ends it.
func (p *plugin) trace(ctx context.Context, hook hookKind) (_ context.Context, done func(result int32, err error)) {
	parent := trace.SpanFromContext(ctx)
	if !parent.IsRecording() {
		return ctx, func(int32, error) {}
	}
	ctx, span := parent.TracerProvider().Tracer(tracer).Start(ctx, "plugin "+p.locked.Name, trace.WithAttributes(
		attribute.String("cleat.plugin", p.locked.Name), attribute.String("cleat.plugin.version", p.locked.Version),
		attribute.String("cleat.plugin.hook", hook.export()), attribute.Int("cleat.plugin.generation", p.generation)))
	return ctx, func(result int32, err error) {
		if err != nil {
			span.RecordError(err)
			span.SetStatus(codes.Error, firstLine(err.Error()))
		} else {
			span.SetAttributes(attribute.Int("cleat.plugin.result", int(result)))
		}
		span.End()
	}
}
