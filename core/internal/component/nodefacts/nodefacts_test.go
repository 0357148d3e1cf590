package nodefacts

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/nodenotes"
	"github.com/cleat-dev/cleat/core/kernel"
)

const patience = time.Minute

func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := kernel.Poll(ctx, 5*time.Millisecond, func(context.Context) error { return condition() }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// TestFollow: the Node says what the machine is, and says it again when a program
// starts to listen or the clock went wrong.
func TestFollow(t *testing.T) {
	client := fake.NewClientset()
	cfg := &config.Config{
		Options: config.Options{NodeName: "n", NodeIP: []string{"192.0.2.1"}, NodeExternalIP: []string{"198.51.100.1"}, NodeExternalDNS: []string{"n.example"}},
		Host:    config.Host{Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.1")}},
	}
	var mu sync.Mutex
	open := []socket{{port: nodenotes.Port{Number: 22, Protocol: corev1.ProtocolTCP}}}
	set := func(f func()) { mu.Lock(); defer mu.Unlock(); f() }
	c := New(cfg, "", slog.New(slog.DiscardHandler))
	c.lookEvery = 5 * time.Millisecond
	c.sockets = func(reach []netip.Addr) ([]socket, error) {
		if got := fmt.Sprint(reach); got != "[192.0.2.1 198.51.100.1]" {
			t.Errorf("asked for the sockets at %s", got)
		}
		mu.Lock()
		defer mu.Unlock()
		return open, nil
	}
	says := func(key, want string) {
		t.Helper()
		await(t, key, func() error {
			node, err := client.CoreV1().Nodes().Get(t.Context(), "n", metav1.GetOptions{})
			if err == nil && node.Annotations[key] != want {
				err = fmt.Errorf("%q, want %q", node.Annotations[key], want)
			}
			return err
		})
	}
	recorder := record.NewFakeRecorder(10)
	ctx, cancel := context.WithCancel(t.Context())
	ready, done := make(chan struct{}), make(chan error, 1)
	go func() { done <- c.follow(ctx, client, recorder, func() { close(ready) }) }()

	// There is no Node yet, so it tries again.
	if _, err := client.CoreV1().Nodes().Create(t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n",
		Annotations: map[string]string{"kept": "yes", nodenotes.InternalDNS: "old.example"}}}, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	says(nodenotes.ExternalIP, "198.51.100.1")
	says(nodenotes.Translated, "true")
	says(nodenotes.ExternalDNS, "n.example")
	says(nodenotes.InternalDNS, "") // no longer given
	says(nodenotes.Listens, "22/tcp")
	says("kept", "yes")
	<-ready

	set(func() { open = []socket{{port: nodenotes.Port{Number: 53, Protocol: corev1.ProtocolUDP}}} })
	says(nodenotes.Listens, "53/udp")

	c.clock.saw(time.Now(), http.Header{"Date": {time.Now().Add(time.Minute).UTC().Format(http.TimeFormat)}})
	set(func() { open = nil })
	says(nodenotes.Listens, "")
	select {
	case event := <-recorder.Events:
		if !strings.Contains(event, "Warning ClockSkew") || !strings.Contains(event, "behind") {
			t.Errorf("the event is %q", event)
		}
	case <-time.After(patience):
		t.Error("no event of the clock")
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("follow returned %v", err)
	}
}

// TestOwnExternalAddress: an address on one of the machine's links is nobody else's.
func TestOwnExternalAddress(t *testing.T) {
	own := netip.MustParseAddr("198.51.100.1")
	cfg := &config.Config{Options: config.Options{NodeExternalIP: []string{own.String()}}, Host: config.Host{Addresses: []netip.Addr{own}}}
	if n, _, err := New(cfg, "", nil).fixed(); err != nil || n.Translated || len(n.ExternalIPs) != 1 {
		t.Errorf("got %+v, %v", n, err)
	}
}

func TestClock(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 900_000_000, time.UTC)
	c := &clock{now: func() time.Time { return now }}
	for i, step := range []struct {
		server time.Duration // the server's clock beside ours
		took   time.Duration
		want   string // reason and part of the message
	}{
		{0, 0, ""},
		{-900 * time.Millisecond, 0, ""},
		{4 * time.Second, 0, ""},
		{-30 * time.Second, 0, "ClockSkew ahead of"},
		{-31 * time.Second, 0, ""}, // told already
		{time.Second, 0, "ClockRight"},
		{time.Hour, 0, "ClockSkew 59m59s behind"},
		{-20 * time.Second, 30 * time.Second, "ClockRight"}, // the answer was slow, which is no skew
	} {
		c.saw(now.Add(-step.took), http.Header{"Date": {now.Add(step.server).Format(http.TimeFormat)}})
		n, ok := c.notice()
		got := n.reason + " " + n.message
		reason, part, _ := strings.Cut(step.want, " ")
		if ok != (step.want != "") || n.reason != reason || !strings.Contains(got, part) {
			t.Errorf("step %d: told %v %q, want %q", i, ok, got, step.want)
		}
	}
	c.saw(now, http.Header{})
	if _, ok := c.notice(); ok {
		t.Error("an answer without a date says something of the clock")
	}
}
