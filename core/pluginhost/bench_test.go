package pluginhost

import (
	"context"
	"testing"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// BenchmarkHandles is what every request of the API server pays.
func BenchmarkHandles(b *testing.B) {
	h := lockOf(b, hook("one", guesttest.I32(0)).Wasm(), hook("two", guesttest.I32(0)).Wasm()).open(b)
	for _, resource := range []string{"pods", "leases"} {
		b.Run(resource, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				h.Handles(hostabi.OperationCreate, "", "v1", resource, "")
			}
		})
	}
}

// BenchmarkHook is a whole request to a guest that does nothing, or reads a
// field with one host call.
func BenchmarkHook(b *testing.B) {
	read := objectGuest("read", []string{"metadata.labels.app"}, "object_get", guesttest.I32(0),
		guesttest.Code(guesttest.Get(0), guesttest.I32(0), guesttest.I32(bufAt), guesttest.I32(100), guesttest.Call(1), guesttest.Drop(), guesttest.I32(0)))
	for name, wasm := range map[string][]byte{"empty": hook("g", guesttest.I32(0)).Wasm(), "read": read.Wasm()} {
		for trust, trusted := range map[string]bool{"": false, "-trusted": true} {
			b.Run(name+trust, func(b *testing.B) {
				locked := lockOf(b, wasm)
				locked.lock.Plugins[0].Trusted = trusted
				benchmarkRequest(b, locked.open(b), pod(), true)
			})
		}
	}
}

func benchmarkRequest(b *testing.B, h *Host, req *extension.AdmissionRequest, allowed bool) {
	object, err := req.Object()
	if err != nil {
		b.Fatal(err)
	}
	req.Object = func() (map[string]any, error) { return object, nil }
	b.ReportAllocs()
	for b.Loop() {
		result, err := h.Validate(context.Background(), req)
		if err != nil || result.Allowed != allowed {
			b.Fatalf("got %+v, %v", result, err)
		}
	}
}

// BenchmarkBaseline is the real policy, a Go guest, on a pod of 20 containers.
func BenchmarkBaseline(b *testing.B) {
	h := openReal(b)
	var containers []any
	for range 20 {
		containers = append(containers, map[string]any{"name": "c", "image": "registry.example/app:1.2.3"})
	}
	spec := map[string]any{"containers": containers}
	b.Run("labelled", func(b *testing.B) {
		benchmarkRequest(b, h, baselinePod(map[string]string{"baseline.cleat.dev/enforce": "true"}, spec), true)
	})
	b.Run("not-labelled", func(b *testing.B) {
		benchmarkRequest(b, h, baselinePod(nil, spec), true)
	})
}
