package deployer

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// Reasons of the events on an Addon; those that k3s has are called the same.
const (
	reasonApplying     = "ApplyingManifest"
	reasonApplied      = "AppliedManifest"
	reasonApplyFailed  = "ApplyManifestFailed"
	reasonReadFailed   = "ReadManifestFailed"
	reasonParseFailed  = "ParseManifestFailed"
	reasonDeleting     = "DeletingManifest"
	reasonDeleteFailed = "DeleteManifestFailed"
	reasonTookBack     = "FieldsTakenBack"
)

// maxMessage is what the API server takes for an event's message, in bytes.
const maxMessage = 1024

// eventFunc records an event on an Addon.
type eventFunc func(addon *crd.Addon, warning bool, reason, message string)

// startEvents returns a function that records events through client and one
// that stops doing so.
func startEvents(ctx context.Context, client kubernetes.Interface, host string) (eventFunc, func()) {
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	recorder := broadcaster.NewRecorder(runtime.NewScheme(), corev1.EventSource{Component: fieldManager, Host: host})
	event := func(addon *crd.Addon, warning bool, reason, message string) {
		kind := corev1.EventTypeNormal
		if warning {
			kind = corev1.EventTypeWarning
		}
		recorder.Event(&corev1.ObjectReference{
			APIVersion: crd.Group + "/" + crd.Version, Kind: crd.AddonKind,
			Namespace: crd.AddonNamespace, Name: addon.Name, UID: addon.UID, ResourceVersion: addon.ResourceVersion,
		}, kind, reason, clip(message, maxMessage))
	}
	return event, broadcaster.Shutdown
}
