package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"sync"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// emptyCluster is a cluster without objects. It keeps the plugin's state.
type emptyCluster struct {
	mu    sync.Mutex
	state map[string][]byte
}

var _ extension.Cluster = (*emptyCluster)(nil)

// Lookup implements extension.Cluster.
func (*emptyCluster) Lookup(hostabi.Kind, string, string) (map[string]any, error) {
	return nil, extension.ErrNotFound
}

// LookupList implements extension.Cluster.
func (*emptyCluster) LookupList(hostabi.Kind, string, string) ([]map[string]any, error) {
	return nil, nil
}

// State implements extension.Cluster.
func (c *emptyCluster) State(_ context.Context, _, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.state[key], nil
}

// SetState implements extension.Cluster.
func (c *emptyCluster) SetState(_ context.Context, _ string, values map[string][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = map[string][]byte{}
	}
	for key, value := range values {
		if len(value) == 0 {
			delete(c.state, key)
		} else {
			c.state[key] = value
		}
	}
	if len(c.state) > hostabi.MaxStateKeys {
		return extension.ErrFull
	}
	return nil
}

// noRenderer answers as a host does to which a chart makes no sense.
type noRenderer struct{}

var errNoRenderer = errors.New("the conformance suite was given no renderer")

// Helm implements extension.Renderer.
func (noRenderer) Helm(context.Context, fs.FS, hostabi.HelmRequest) (hostabi.HelmResult, error) {
	return hostabi.HelmResult{}, errNoRenderer
}

// Kustomize implements extension.Renderer.
func (noRenderer) Kustomize(context.Context, fs.FS, hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	return nil, errNoRenderer
}
