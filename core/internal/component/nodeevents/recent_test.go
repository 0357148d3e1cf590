package nodeevents

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

func TestRecent(t *testing.T) {
	if _, err := New(Options{}).Recent(t.Context()); err == nil {
		t.Error("there are events before the API server answers")
	}
	at := func(s int64) metav1.Time { return metav1.Unix(s, 0) }
	all := []corev1.Event{
		{LastTimestamp: at(30), Type: corev1.EventTypeWarning, Reason: "Last", Message: strings.Repeat("x", 2000), Count: 3},
		{EventTime: metav1.NewMicroTime(time.Unix(20, 0)), Type: corev1.EventTypeNormal, Reason: "New kind", Message: "m"},
		{LastTimestamp: at(10), Type: corev1.EventTypeNormal, Reason: "First", Message: "m"},
	}
	want := []serverstatus.Event{
		{At: time.Unix(10, 0).UTC(), Reason: "First", Message: "m"},
		{At: time.Unix(20, 0).UTC(), Reason: "New kind", Message: "m"},
		{At: time.Unix(30, 0).UTC(), Warning: true, Reason: "Last", Message: strings.Repeat("x", 1021) + "…", Count: 3},
	}
	if diff := cmp.Diff(want, recent(all)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for range 30 {
		all = append(all, all[2])
	}
	if got := recent(all); len(got) != recentKept || got[recentKept-1].Reason != "Last" {
		t.Errorf("%d events are kept: %+v", len(got), got)
	}
}
