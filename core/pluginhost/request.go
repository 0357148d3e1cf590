package pluginhost

import (
	"errors"
	"fmt"

	"github.com/cleat-dev/cleat/core/extension"
)

// request is an admission request with its expensive parts fetched at most
// once, and the object as the plugins before have left it.
type request struct {
	*extension.AdmissionRequest

	masks [8]uint64 // room for the rules that match, by plugin

	current, old                    map[string]any
	labels                          map[string]string
	haveObject, haveOld, haveLabels bool
	objectErr, oldErr, labelsErr    error
}

func (r *request) object() (map[string]any, error) {
	if !r.haveObject {
		r.haveObject = true
		r.current, r.objectErr = fetch("object", r.Object)
	}
	return r.current, r.objectErr
}

// appendValue appends what the object has at the path, without making all of the
// object where that can be avoided.
func (r *request) appendValue(dst []byte, path *projection) ([]byte, error) {
	if r.haveObject || r.Read == nil {
		object, err := r.object()
		if err != nil {
			return nil, err
		}
		return path.appendValue(dst, object)
	}
	return path.appendRead(dst, r.Read)
}

// peek returns a copy of the request as it stands, for what comes back to it
// after the object was replaced.
func (r *request) peek() *request {
	found := *r
	return &found
}

// settle fetches everything a plugin may ask for, so that the request can be
// read after the API server went on.
func (r *request) settle() error {
	_, err := r.object()
	_, oldErr := r.oldObject()
	_, labelsErr := r.namespaceLabels()
	return errors.Join(err, oldErr, labelsErr)
}

// replace makes object the one later plugins and conditions see.
func (r *request) replace(object map[string]any) {
	r.current, r.haveObject, r.objectErr = object, true, nil
}

func (r *request) oldObject() (map[string]any, error) {
	if !r.haveOld {
		r.haveOld = true
		r.old, r.oldErr = fetch("old object", r.OldObject)
	}
	return r.old, r.oldErr
}

func (r *request) namespaceLabels() (map[string]string, error) {
	if !r.haveLabels {
		r.haveLabels = true
		r.labels, r.labelsErr = fetch("namespace labels", r.NamespaceLabels)
	}
	return r.labels, r.labelsErr
}

func fetch[T any](what string, get func() (T, error)) (value T, err error) {
	if get == nil {
		return value, nil
	}
	if value, err = get(); err != nil {
		return value, fmt.Errorf("%s: %w", what, err)
	}
	return value, nil
}
