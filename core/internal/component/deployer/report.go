package deployer

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// report notes the outcome of an attempt in the Addon's status and, when it is
// news, as an event and a log line.
func (e *engine) report(ctx context.Context, s *addonState, log *slog.Logger, reason, checksum string, objects []crd.ObjectRef, failure error) {
	if ctx.Err() != nil {
		return // stopped half way: neither a failure nor done
	}
	text := ""
	if failure != nil {
		text = failure.Error()
	}
	news := text != s.lastErr
	s.lastErr = text
	switch {
	case failure != nil && news:
		log.Error("manifest failed", "reason", reason, "error", clip(text, maxMessage))
	case failure != nil:
		log.Debug("manifest failed again", "reason", reason, "error", clip(text, maxMessage), "retry_at", s.retry.at)
	}
	if s.addon == nil {
		return
	}
	if failure != nil && news {
		e.event(s.addon, true, reason, text)
	}
	status := outcome(s.addon.Status, s.addon.Generation, checksum, reason, objects, failure, e.now())
	if sameStatus(s.addon.Status, status) {
		return
	}
	addon, err := e.cluster.putStatus(ctx, s.addon.Name, status)
	if err != nil {
		log.Warn("addon status is not written", "error", err)
		if s.retry.at.IsZero() {
			s.retry.failed(e.now())
			s.done = ""
		}
		return
	}
	s.addon = addon
}

func sameStatus(a, b crd.AddonStatus) bool {
	return a.ObservedChecksum == b.ObservedChecksum && a.LastError == b.LastError && slices.Equal(a.Objects, b.Objects) &&
		slices.Equal(a.Conditions, b.Conditions)
}

func describe(objects []*unstructured.Unstructured) string {
	kinds := map[string]int{}
	for _, o := range objects {
		kinds[o.GetKind()]++
	}
	parts := make([]string, 0, len(kinds))
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		parts = append(parts, fmt.Sprintf("%d %s", kinds[kind], kind))
	}
	return strings.Join(parts, ", ")
}
