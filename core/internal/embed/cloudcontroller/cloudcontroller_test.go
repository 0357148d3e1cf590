package cloudcontroller

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	cloudproviderapi "k8s.io/cloud-provider/api"

	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// TestRun drives the controller against a server with one tainted node and
// looks at what it sends.
func TestRun(t *testing.T) {
	node := corev1.Node{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Node"},
		ObjectMeta: metav1.ObjectMeta{Name: "n", UID: "u", ResourceVersion: "1",
			Annotations: map[string]string{cloudproviderapi.AnnotationAlphaProvidedIPAddr: "192.0.2.1"}},
		Spec: corev1.NodeSpec{Taints: []corev1.Taint{
			{Key: cloudproviderapi.TaintExternalCloudProvider, Effect: corev1.TaintEffectNoSchedule},
			{Key: "mine", Effect: corev1.TaintEffectNoSchedule},
		}},
	}
	updated, patched := make(chan corev1.Node, 1), make(chan string, 1)
	reply := func(w http.ResponseWriter, body any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(body); err != nil {
			t.Errorf("reply: %v", err)
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodGet && r.URL.Query().Get("watch") != "":
			// An initial list in the watch is refused, so that the informer lists.
			if r.URL.Query().Get("sendInitialEvents") != "" {
				http.Error(w, "no", http.StatusBadRequest)
				return
			}
			w.Header().Set("Content-Type", "application/json")
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		case r.Method == http.MethodGet:
			reply(w, corev1.NodeList{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "NodeList"},
				ListMeta: metav1.ListMeta{ResourceVersion: "1"}, Items: []corev1.Node{node}})
		case r.Method == http.MethodPut && r.URL.Path == "/api/v1/nodes/n":
			var got corev1.Node
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Errorf("update: %v", err)
			}
			select {
			case updated <- got:
			default:
			}
			got.TypeMeta = node.TypeMeta
			reply(w, got)
		case r.Method == http.MethodPatch && strings.HasSuffix(r.URL.Path, "/nodes/n/status"):
			var got json.RawMessage
			if err := json.NewDecoder(r.Body).Decode(&got); err != nil {
				t.Errorf("patch: %v", err)
			}
			select {
			case patched <- string(got):
			default:
			}
			reply(w, node)
		default: // events
			reply(w, corev1.Event{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}})
		}
	}))
	defer server.Close()

	ctx, cancel := context.WithCancel(t.Context())
	synced, done := make(chan struct{}), make(chan error, 1)
	config := &rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: "application/json"}}
	go func() { done <- Run(ctx, config, "n", nil, slog.New(slog.DiscardHandler), func() { close(synced) }) }()

	deadline := time.After(time.Minute)
	receive(t, deadline, "the nodes to be known", synced)
	got := receive(t, deadline, "the node to be updated", updated)
	if got.Spec.ProviderID != "cleat://n" {
		t.Errorf("provider ID is %q", got.Spec.ProviderID)
	}
	if !slices.EqualFunc(got.Spec.Taints, []string{"mine"}, func(a corev1.Taint, key string) bool { return a.Key == key }) {
		t.Errorf("taints are %v", got.Spec.Taints)
	}
	if patch := receive(t, deadline, "the addresses to be set", patched); !strings.Contains(patch, `"192.0.2.1"`) || !strings.Contains(patch, `"Hostname"`) {
		t.Errorf("status patch is %s", patch)
	}
	cancel()
	if err := receive(t, deadline, "Run to return", done); !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

func receive[T any](t *testing.T, deadline <-chan time.Time, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-deadline:
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func TestNotesDiffer(t *testing.T) {
	node := func(external string, taints ...corev1.Taint) *corev1.Node {
		return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{nodenotes.ExternalIP: external, "x": external}},
			Spec: corev1.NodeSpec{Taints: taints}}
	}
	taint := corev1.Taint{Key: cloudproviderapi.TaintExternalCloudProvider}
	moved := node("192.0.2.1")
	moved.Annotations[cloudproviderapi.AnnotationAlphaProvidedIPAddr] = "192.0.2.9" // the kubelet was started with another --node-ip
	for name, tc := range map[string]struct {
		before, after any
		want          bool
	}{
		"same":        {node("192.0.2.1"), node("192.0.2.1"), false},
		"moved":       {node("192.0.2.1"), moved, true},
		"address":     {node(""), node("192.0.2.1"), true},
		"initialized": {node("192.0.2.1", taint), node("192.0.2.1"), true},
		"not yet":     {node("192.0.2.1", taint), node("192.0.2.1", taint), false},
		"no node":     {nil, node("192.0.2.1"), false},
	} {
		if got := notesDiffer(tc.before, tc.after); got != tc.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
