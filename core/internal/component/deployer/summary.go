package deployer

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cleat-dev/cleat/core/internal/crd"
)

// Addon is what is known of a file of the manifests directory.
type Addon struct {
	Name    string // of the Addon object
	File    string // absolute path
	Applied bool   // the last attempt put all of it into the cluster
	Objects int    // that it has there
	Error   string // of the last attempt, "" if it succeeded or there was none
}

// Addons returns this server's addons by name, as of the last look at the
// directory; nil before the first. The slice is shared; do not write to it.
func (d *Deployer) Addons() []Addon {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.addons
}

// summary is what Addons returns.
func (e *engine) summary() []Addon {
	out := make([]Addon, 0, len(e.addons))
	for name, s := range e.addons {
		if s.addon == nil || s.addon.Spec.Server != e.server {
			continue
		}
		status := s.addon.Status
		a := Addon{
			Name: name, File: s.source(), Objects: len(status.Objects), Error: status.LastError,
			Applied: meta.IsStatusConditionTrue(status.Conditions, crd.ConditionApplied),
		}
		if s.lastErr != "" { // it may be newer than what could be written
			a.Error, a.Applied = s.lastErr, false
		}
		out = append(out, a)
	}
	slices.SortFunc(out, func(a, b Addon) int { return strings.Compare(a.Name, b.Name) })
	return out
}
