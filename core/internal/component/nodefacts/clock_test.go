package nodefacts

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/nodenotes"
)

// apiServer answers a node over HTTP. Its clock is ahead.
type apiServer struct {
	t      *testing.T
	events chan corev1.Event

	mu    sync.Mutex
	ahead time.Duration
}

func (s *apiServer) set(ahead time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ahead = ahead
}

func (s *apiServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	w.Header().Set("Date", time.Now().Add(s.ahead).UTC().Format(http.TimeFormat))
	s.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	body, err := io.ReadAll(r.Body)
	if err != nil {
		s.t.Error(err)
	}
	switch r.Method + " " + r.URL.Path {
	case "PATCH /api/v1/nodes/n":
		fmt.Fprint(w, `{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}}`)
	case "POST /api/v1/namespaces/default/events":
		var e corev1.Event
		if err := json.Unmarshal(body, &e); err != nil {
			s.t.Error(err)
		}
		s.events <- e
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write(body)
	default:
		s.t.Errorf("asked for %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusNotFound)
	}
}

// TestClockOverHTTP: from the Date of a server's answers to Events on the Node, by the
// unit as it runs.
func TestClockOverHTTP(t *testing.T) {
	api := &apiServer{t: t, events: make(chan corev1.Event, 10), ahead: time.Hour}
	server := httptest.NewServer(api)
	defer server.Close()
	kubeconfig := filepath.Join(t.TempDir(), "kubeconfig")
	file := clientcmdapi.NewConfig()
	file.Clusters["c"] = &clientcmdapi.Cluster{Server: server.URL}
	file.Contexts["c"] = &clientcmdapi.Context{Cluster: "c"}
	file.CurrentContext = "c"
	if err := clientcmd.WriteToFile(*file, kubeconfig); err != nil {
		t.Fatal(err)
	}

	var log strings.Builder
	c := New(&config.Config{Options: config.Options{NodeName: "n"}}, kubeconfig, slog.New(slog.NewTextHandler(&log, nil)))
	c.lookEvery = 5 * time.Millisecond
	var mu sync.Mutex
	port := uint16(22)
	c.sockets = func([]netip.Addr) ([]socket, error) {
		mu.Lock()
		defer mu.Unlock()
		return []socket{{port: nodenotes.Port{Number: port, Protocol: corev1.ProtocolTCP}}}, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx, func() {}) }()
	expect := func(kind, reason, part string) {
		t.Helper()
		select {
		case e := <-api.events:
			if e.Type != kind || e.Reason != reason || !strings.Contains(e.Message, part) ||
				e.InvolvedObject.Kind != "Node" || e.InvolvedObject.Name != "n" || e.Source.Component != source || e.Source.Host != "n" {
				t.Errorf("the event is %+v", e)
			}
		case <-time.After(patience):
			t.Fatalf("no event %s", reason)
		}
	}
	expect(corev1.EventTypeWarning, "ClockSkew", "behind the server's: certificates")

	api.set(0)
	mu.Lock()
	port = 23 // so that it writes, and hears from the server again
	mu.Unlock()
	expect(corev1.EventTypeNormal, "ClockRight", "agree again")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "behind the server's") {
		t.Errorf("the log says %s", log.String())
	}
}
