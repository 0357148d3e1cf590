package pluginhost

import (
	"context"
	"fmt"

	"github.com/cleat-dev/cleat/hostabi"
)

// NetworkLock is the part of the lock that a node without a server needs: the
// plugin called name of the cni point, as a lock of its own.
func (h *Host) NetworkLock(name string) ([]byte, error) {
	g := h.enter()
	if g == nil {
		return nil, errHostClosed
	}
	defer g.leave()
	p, err := g.cni(name)
	if err != nil {
		return nil, err
	}
	return (&Lock{Version: LockVersion, Plugins: []LockedPlugin{p.locked}}).Marshal()
}

// NetworkPlugin returns the wasm with this digest if it is a plugin of the cni
// point, and no other.
func (h *Host) NetworkPlugin(ctx context.Context, sha256 string) ([]byte, error) {
	g := h.enter()
	if g == nil {
		return nil, errHostClosed
	}
	defer g.leave()
	for _, p := range g.serving(hostabi.PointCNI) {
		if p.locked.SHA256 != sha256 {
			continue
		}
		wasm, err := h.sources.Read(ctx, p.locked)
		if err != nil {
			return nil, err
		}
		if got := h.sources.digest(p.locked, wasm); got != sha256 {
			return nil, fmt.Errorf("plugin %s: source %s has the digest %s now, the lock says %s: put the file that was locked in its place, "+
				"or lock the one that is there with `cleat plugin lock`", p.locked.Name, p.locked.Source, got, sha256)
		}
		return wasm, nil
	}
	return nil, fmt.Errorf("no network plugin in plugins.lock has the digest %.80q", sha256)
}

// InUse returns the digests of the plugins that decide, and of those replaced ones
// that a call is still in or that may come back.
func (h *Host) InUse() []string {
	h.mu.Lock()
	defer h.mu.Unlock()
	var digests []string
	for _, g := range h.live {
		for _, p := range g.all() {
			digests = append(digests, p.locked.SHA256)
		}
	}
	return digests
}
