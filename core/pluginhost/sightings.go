package pluginhost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/hostabi"
)

// sightings is what a call saw of the cluster. A nil one notes nothing.
type sightings struct {
	Objects []sighting        `json:"objects,omitempty"`
	Lists   []sighting        `json:"lists,omitempty"`
	State   map[string][]byte `json:"state,omitempty"`
	// Redacted is set when a secret was left out.
	Redacted bool `json:"redacted,omitempty"`
}

type sighting struct {
	Kind      string            `json:"kind"`
	Namespace string            `json:"namespace,omitempty"`
	What      string            `json:"what,omitempty"` // name or selector
	Objects   []json.RawMessage `json:"objects,omitempty"`
	Error     string            `json:"error,omitempty"`
}

// note makes the record of what a query was answered.
func (s *sightings) note(q lookupQuery, err error, objects ...map[string]any) sighting {
	seen := sighting{Kind: q.kind.String(), Namespace: q.namespace, What: q.what}
	if err != nil {
		seen.Error = err.Error()
		return seen
	}
	for _, o := range objects {
		var kept any
		if q.path == nil {
			kept = copyJSON(o)
		} else {
			kept = keepPath(map[string]any{}, o, q.path.steps)
		}
		part, _ := kept.(map[string]any)
		s.Redacted = redactObject(part, seen.Kind == "v1/Secret") || s.Redacted
		text, err := hostabi.AppendJSON(nil, part)
		if err != nil {
			text = []byte("{}")
		}
		seen.Objects = append(seen.Objects, text)
	}
	return seen
}

func (s *sightings) lookup(q lookupQuery, object map[string]any, err error) {
	if s != nil {
		s.Objects = append(s.Objects, s.note(q, err, object))
	}
}

func (s *sightings) list(q lookupQuery, objects []map[string]any, err error) {
	if s != nil {
		s.Lists = append(s.Lists, s.note(q, err, objects...))
	}
}

func (s *sightings) state(key string, value []byte, err error) {
	if s == nil || err != nil {
		return
	}
	if s.State == nil {
		s.State = map[string][]byte{}
	}
	s.State[key] = value
}

// seenCluster answers as the cluster did when the call was captured.
type seenCluster struct{ seen *sightings }

var _ extension.Cluster = seenCluster{}

// errUnseen is what a replayed call gets that asks what the captured one did
// not, which a deterministic plugin never does.
var errUnseen = errors.New("the captured call did not ask this")

func (c seenCluster) find(list []sighting, kind hostabi.Kind, namespace, what string) ([]map[string]any, error) {
	for _, s := range list {
		if s.Kind != kind.String() || s.Namespace != namespace || s.What != what {
			continue
		}
		for _, known := range []error{extension.ErrNotFound, extension.ErrNotReady, extension.ErrBadQuery} {
			if s.Error == known.Error() {
				return nil, known
			}
		}
		if s.Error != "" {
			return nil, errors.New(s.Error)
		}
		objects := make([]map[string]any, len(s.Objects))
		for i, text := range s.Objects {
			object, err := parseObject(text)
			if err != nil {
				return nil, err
			}
			objects[i] = object
		}
		return objects, nil
	}
	return nil, fmt.Errorf("%s %s %s: %w", kind, namespace, what, errUnseen)
}

// Lookup implements extension.Cluster.
func (c seenCluster) Lookup(kind hostabi.Kind, namespace, name string) (map[string]any, error) {
	objects, err := c.find(c.seen.Objects, kind, namespace, name)
	if err != nil || len(objects) == 0 {
		return nil, err
	}
	return objects[0], nil
}

// LookupList implements extension.Cluster.
func (c seenCluster) LookupList(kind hostabi.Kind, namespace, selector string) ([]map[string]any, error) {
	return c.find(c.seen.Lists, kind, namespace, selector)
}

// State implements extension.Cluster.
func (c seenCluster) State(_ context.Context, _, key string) ([]byte, error) {
	return c.seen.State[key], nil
}

// SetState implements extension.Cluster; a replay changes nothing.
func (c seenCluster) SetState(context.Context, string, map[string][]byte) error { return nil }
