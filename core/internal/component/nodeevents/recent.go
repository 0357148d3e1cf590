package nodeevents

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"

	"github.com/cleat-dev/cleat/core/internal/crd"
	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

const (
	recentTimeout = 3 * time.Second
	recentAsked   = 500 // events of one answer
	recentKept    = 20
)

// Recent returns the last events of the server's Node, oldest first, whoever told
// them. It is an error before the unit is ready.
func (c *Component) Recent(ctx context.Context) ([]serverstatus.Event, error) {
	client := c.client.Load()
	if client == nil {
		return nil, errors.New("the API server has not answered about events yet")
	}
	ctx, cancel := context.WithTimeout(ctx, recentTimeout)
	defer cancel()
	list, err := client.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{
		FieldSelector: fields.Set{"involvedObject.kind": "Node", "involvedObject.name": c.Node}.String(),
		Limit:         recentAsked,
	})
	if err != nil {
		return nil, err
	}
	return recent(list.Items), nil
}

func recent(all []corev1.Event) []serverstatus.Event {
	out := make([]serverstatus.Event, len(all))
	for i, e := range all {
		at := e.LastTimestamp.Time
		if at.IsZero() {
			at = e.EventTime.Time // events of the newer kind have only this
		}
		out[i] = serverstatus.Event{
			At: at.UTC(), Warning: e.Type == corev1.EventTypeWarning,
			Reason: crd.Clip(e.Reason, maxMessage), Message: crd.Clip(e.Message, maxMessage), Count: e.Count,
		}
	}
	slices.SortStableFunc(out, func(a, b serverstatus.Event) int {
		return cmp.Or(a.At.Compare(b.At), cmp.Compare(a.Reason, b.Reason), cmp.Compare(a.Message, b.Message))
	})
	return out[max(0, len(out)-recentKept):]
}
