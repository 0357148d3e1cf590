package plugins

import (
	"context"
	"errors"
	"testing"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
	"github.com/cleat-dev/cleat/hostabi"
)

// host answers every point with something of its own.
type host struct{ closed chan error } // what the context of Close said

func (h *host) PlanDatastore(_ context.Context, req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	return hostabi.DatastorePlan{Endpoint: req.Endpoint}, nil
}

func (h *host) PlanNetwork(_ context.Context, req hostabi.CNIRequest) (hostabi.CNIPlan, error) {
	return hostabi.CNIPlan{Description: req.Plugin}, nil
}

func (h *host) Claims() []hostabi.DeployerManifest {
	return []hostabi.DeployerManifest{{Files: []string{"*"}}}
}

func (h *host) Render(context.Context, extension.DeployInput) (hostabi.DeployResult, bool, error) {
	return hostabi.DeployResult{}, true, nil
}

func (h *host) Handles(_ hostabi.Operation, _, _, resource, _ string) bool { return resource == "pods" }

func (h *host) Mutate(_ context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	return extension.AdmissionResult{Allowed: true, Message: "mutated " + req.Name}, nil
}

func (h *host) Validate(_ context.Context, req *extension.AdmissionRequest) (extension.AdmissionResult, error) {
	return extension.AdmissionResult{Allowed: true, Message: "validated " + req.Name}, nil
}

func (h *host) Close(ctx context.Context) error {
	h.closed <- ctx.Err()
	return nil
}

func TestBeforeTheHostIsOpen(t *testing.T) {
	c := New(func(context.Context) (Host, error) { return &host{}, nil }, nil)
	ctx := t.Context()
	if !c.Handles("CREATE", "", "v1", "configmaps", "") {
		t.Error("a request would pass unasked")
	}
	for point, ask := range map[string]func() error{
		"datastore": func() error { _, err := c.PlanDatastore(ctx, hostabi.DatastoreRequest{}); return err },
		"cni":       func() error { _, err := c.PlanNetwork(ctx, hostabi.CNIRequest{}); return err },
		"deployer":  func() error { _, _, err := c.Render(ctx, extension.DeployInput{}); return err },
		"mutate":    func() error { _, err := c.Mutate(ctx, &extension.AdmissionRequest{}); return err },
		"validate":  func() error { _, err := c.Validate(ctx, &extension.AdmissionRequest{}); return err },
	} {
		if err := ask(); !errors.Is(err, errNotReady) {
			t.Errorf("%s: got %v, want %v", point, err, errNotReady)
		}
	}
}

func TestHandsOn(t *testing.T) {
	h := &host{closed: make(chan error, 1)}
	c := New(func(context.Context) (Host, error) { return h, nil }, nil)
	stop := kerneltest.Run(t, c)
	ctx := t.Context()
	if plan, err := c.PlanDatastore(ctx, hostabi.DatastoreRequest{Endpoint: "e"}); err != nil || plan.Endpoint != "e" {
		t.Errorf("datastore: %v, %v", plan, err)
	}
	if plan, err := c.PlanNetwork(ctx, hostabi.CNIRequest{Plugin: "p"}); err != nil || plan.Description != "p" {
		t.Errorf("cni: %v, %v", plan, err)
	}
	if _, claimed, err := c.Render(ctx, extension.DeployInput{}); err != nil || !claimed {
		t.Errorf("deployer: %t, %v", claimed, err)
	}
	if claims := c.Claims(); len(claims) != 1 {
		t.Errorf("claims: %v", claims)
	}
	if !c.Handles("CREATE", "", "v1", "pods", "") || c.Handles("CREATE", "", "v1", "configmaps", "") {
		t.Error("admission: not the host's index")
	}
	req := &extension.AdmissionRequest{Name: "n"}
	if res, err := c.Mutate(ctx, req); err != nil || res.Message != "mutated n" {
		t.Errorf("mutate: %v, %v", res, err)
	}
	if res, err := c.Validate(ctx, req); err != nil || res.Message != "validated n" {
		t.Errorf("validate: %v, %v", res, err)
	}
	select {
	case <-h.closed:
		t.Fatal("closed while the unit runs")
	default:
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	select {
	case err := <-h.closed:
		if err != nil {
			t.Errorf("closed with a context that had ended (%v), which leaves no time to wait for calls", err)
		}
	default:
		t.Error("the host was not closed")
	}
}

func TestRefusedLock(t *testing.T) {
	failure := errors.New("sha256 differs")
	c := New(func(context.Context) (Host, error) { return nil, failure }, nil)
	if err := c.Run(t.Context(), func() { t.Error("ready was called") }); !errors.Is(err, failure) {
		t.Errorf("got %v, want %v", err, failure)
	}
}
