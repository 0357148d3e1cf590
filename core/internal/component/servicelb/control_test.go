package servicelb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	corev1ac "k8s.io/client-go/applyconfigurations/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cleat-dev/cleat/core/kernel"
)

const patience = time.Minute

// eventually waits for the addresses of a Service, in the order of the status.
func eventually(t *testing.T, client kubernetes.Interface, service, want string) {
	t.Helper()
	await(t, "addresses of "+service, func() error {
		s, err := client.CoreV1().Services("default").Get(t.Context(), service, metav1.GetOptions{})
		if err != nil {
			return err
		}
		var ips []string
		for _, in := range s.Status.LoadBalancer.Ingress {
			ips = append(ips, in.IP)
		}
		if got := strings.Join(ips, " "); got != want {
			return fmt.Errorf("%q, want %q", got, want)
		}
		return nil
	})
}

func await(t *testing.T, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := kernel.Poll(ctx, 10*time.Millisecond, func(context.Context) error { return condition() }); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// awaitEvent waits for an Event about a Service.
func awaitEvent(t *testing.T, client kubernetes.Interface, service, reason, part string) {
	t.Helper()
	await(t, "event "+reason, func() error {
		events, err := client.CoreV1().Events("default").List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		var have []string
		for _, e := range events.Items {
			if e.InvolvedObject.Name == service && e.Reason == reason && strings.Contains(e.Message, part) {
				return nil
			}
			have = append(have, e.InvolvedObject.Name+" "+e.Reason+": "+e.Message)
		}
		return fmt.Errorf("among %q none of %s with %s and %q", have, service, reason, part)
	})
}

func slice(service string, endpoints ...discoveryv1.Endpoint) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: service + "-x",
		Labels: map[string]string{discoveryv1.LabelServiceName: service}}, Endpoints: endpoints}
}

func endpoint(node string, ready bool) discoveryv1.Endpoint {
	return discoveryv1.Endpoint{NodeName: &node, Conditions: discoveryv1.EndpointConditions{Ready: &ready}}
}

func applyAs(t *testing.T, client kubernetes.Interface, manager, service, ip string) {
	t.Helper()
	_, err := client.CoreV1().Services("default").ApplyStatus(t.Context(), corev1ac.Service(service, "default").WithStatus(
		corev1ac.ServiceStatus().WithLoadBalancer(corev1ac.LoadBalancerStatus().WithIngress(corev1ac.LoadBalancerIngress().WithIP(ip)))),
		metav1.ApplyOptions{FieldManager: manager})
	if err != nil {
		t.Fatal(err)
	}
}

// TestControl follows changes of each kind of object.
func TestControl(t *testing.T) {
	foreign := service("foreign", 1, ports("9999/tcp"))
	client := fake.NewClientset(node("n1", "10.0.0.1"), node("n2", "10.0.0.2"),
		named(service("web", 5), "u1"), named(service("rival", 4), "u2"), named(service("local", 3, local, ports("81/tcp")), "u3"), named(foreign, "u4"),
		slice("local", endpoint("n1", false), endpoint("n2", true)))
	applyAs(t, client, "metallb", "foreign", "203.0.113.9")

	c := New(Options{Log: slog.New(slog.DiscardHandler)})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.control(ctx, client) }()

	eventually(t, client, "web", "10.0.0.1 10.0.0.2")
	eventually(t, client, "rival", "")
	eventually(t, client, "local", "10.0.0.2")
	eventually(t, client, "foreign", "203.0.113.9")
	awaitEvent(t, client, "rival", reasonTaken, "default/web")
	awaitEvent(t, client, "foreign", reasonForeign, "metallb")
	awaitEvent(t, client, "web", reasonChanged, "addresses: 10.0.0.1, 10.0.0.2, before: none")

	if _, err := client.DiscoveryV1().EndpointSlices("default").Update(t.Context(),
		slice("local", endpoint("n1", true), endpoint("n2", false)), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, client, "local", "10.0.0.1")

	if _, err := client.CoreV1().Nodes().UpdateStatus(t.Context(), node("n1", "10.0.0.1", notReady), metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, client, "web", "10.0.0.2")
	eventually(t, client, "local", "")

	if err := client.CoreV1().Services("default").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, client, "rival", "10.0.0.2")
	if err := client.CoreV1().Nodes().Delete(t.Context(), "n2", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually(t, client, "rival", "")
	if !c.synced.Load() {
		t.Error("it worked, but says that it has not looked at everything")
	}

	cancel()
	select {
	case err := <-done:
		if err != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("control returned %v", err)
		}
	case <-time.After(patience):
		t.Fatal("control does not end")
	}
}

// named gives a Service the identity that its Events are told apart by.
func named(s *corev1.Service, uid types.UID) *corev1.Service {
	s.UID = uid
	return s
}

// TestClearAll takes away what the unit wrote and nothing else.
func TestClearAll(t *testing.T) {
	client := fake.NewClientset(service("ours", 2), service("foreign", 1))
	applyAs(t, client, name, "ours", "10.0.0.1")
	applyAs(t, client, "metallb", "foreign", "203.0.113.9")
	if err := clearAll(t.Context(), client); err != nil {
		t.Fatal(err)
	}
	eventually(t, client, "ours", "")
	eventually(t, client, "foreign", "203.0.113.9")
}
