package hostile

import (
	"context"
	"encoding/json"
	"io/fs"
	"sync"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// cluster is a small cluster to look things up in and to keep state in.
type cluster struct {
	mu    sync.Mutex
	state map[string]map[string][]byte
	reads int
	// large is added to the object every lookup returns.
	large any
}

func (c *cluster) object() map[string]any {
	return map[string]any{"metadata": map[string]any{"name": "default"}, "large": c.large}
}

func (c *cluster) Lookup(hostabi.Kind, string, string) (map[string]any, error) {
	return c.object(), nil
}

func (c *cluster) LookupList(hostabi.Kind, string, string) ([]map[string]any, error) {
	return []map[string]any{c.object(), c.object()}, nil
}

func (c *cluster) State(_ context.Context, plugin, key string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reads++
	return c.state[plugin][key], nil
}

func (c *cluster) SetState(_ context.Context, plugin string, values map[string][]byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == nil {
		c.state = map[string]map[string][]byte{}
	}
	if c.state[plugin] == nil {
		c.state[plugin] = map[string][]byte{}
	}
	for k, v := range values {
		if len(c.state[plugin]) == hostabi.MaxStateKeys && c.state[plugin][k] == nil {
			return extension.ErrFull
		}
		c.state[plugin][k] = v
	}
	return nil
}

// renderer renders nothing of what it is given.
type renderer struct{}

func (renderer) Helm(context.Context, fs.FS, hostabi.HelmRequest) (hostabi.HelmResult, error) {
	return hostabi.HelmResult{}, nil
}

func (renderer) Kustomize(context.Context, fs.FS, hostabi.KustomizeRequest) ([]json.RawMessage, error) {
	return []json.RawMessage{json.RawMessage(`{}`)}, nil
}
