//go:build !wasip1

package plugintest

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk/selector"
)

// noCluster is why the cluster cannot be asked, 0 if it can.
func (h *fakeHost) noCluster() hostabi.Errno {
	if h.clusterless {
		return hostabi.ENOTSUP
	}
	return h.plugin.ClusterErrno
}

// granted reads the kind and path of a lookup; errno is not 0 when the lookup
// is malformed or not granted.
func (h *fakeHost) granted(kind, path string) (k hostabi.Kind, p hostabi.FieldPath, errno hostabi.Errno) {
	k, err := hostabi.ParseKind(kind)
	switch {
	case !h.allows(hostabi.ModuleLookup):
		return k, p, hostabi.EACCES
	case err != nil:
		h.errorText = err.Error()
		return k, p, hostabi.EINVAL
	case !slices.Contains(h.plugin.Manifest.Lookups, k.String()):
		h.errorText = "kind " + k.String() + " is not among the lookups of the manifest"
		return k, p, hostabi.EACCES
	}
	if path != "" {
		if p, err = hostabi.ParseFieldPath(path); err != nil {
			h.errorText = err.Error()
			return k, p, hostabi.EINVAL
		}
	}
	return k, p, h.noCluster()
}

func (h *fakeHost) LookupGet(kind, namespace, name, path string, buf []byte) int32 {
	k, p, errno := h.granted(kind, path)
	if errno != 0 {
		return int32(errno)
	}
	if name == "" {
		return int32(hostabi.EINVAL)
	}
	objects, err := h.objects(k)
	if err != nil {
		h.errorText = err.Error()
		return int32(hostabi.EIO)
	}
	for _, o := range objects {
		if o.namespace == namespace && o.name == name {
			return fillValue(buf, o.at(p))
		}
	}
	return int32(hostabi.ENOENT)
}

func (h *fakeHost) LookupList(kind, namespace, text, path string, buf []byte) int32 {
	k, p, errno := h.granted(kind, path)
	if errno != 0 {
		return int32(errno)
	}
	wanted, err := selector.Parse(text)
	if err != nil {
		h.errorText = err.Error()
		return int32(hostabi.EINVAL)
	}
	objects, err := h.objects(k)
	if err != nil {
		h.errorText = err.Error()
		return int32(hostabi.EIO)
	}
	values := []any{}
	for _, o := range objects {
		if (namespace == "" || o.namespace == namespace) && wanted.Matches(o.label) {
			values = append(values, o.at(p))
		}
	}
	if len(values) > hostabi.MaxLookupObjects {
		return int32(hostabi.E2BIG)
	}
	return fillValue(buf, values)
}

// clusterObject is one of Plugin.Objects.
type clusterObject struct {
	namespace, name string
	labels          map[string]string
	content         map[string]any
}

func (o clusterObject) label(key string) (string, bool) {
	value, ok := o.labels[key]
	return value, ok
}

func (o clusterObject) at(path hostabi.FieldPath) any {
	if path.String() == "" {
		return o.content
	}
	return valueAt(o.content, path)
}

// objects returns those of a kind, in the order of namespace and name.
func (h *fakeHost) objects(kind hostabi.Kind) ([]clusterObject, error) {
	var found []clusterObject
	for i, text := range h.plugin.Objects {
		v, err := hostabi.ParseJSON([]byte(text))
		content, ok := v.(map[string]any)
		if err != nil || !ok {
			return nil, fmt.Errorf("object %d of the test: not a JSON object: %w", i, err)
		}
		version, _ := content["apiVersion"].(string)
		name, _ := content["kind"].(string)
		if is, err := hostabi.ParseKind(version + "/" + name); err != nil {
			return nil, fmt.Errorf("object %d of the test: %w", i, err)
		} else if is != kind {
			continue
		}
		meta, _ := content["metadata"].(map[string]any)
		o := clusterObject{content: content, labels: map[string]string{}}
		o.namespace, _ = meta["namespace"].(string)
		o.name, _ = meta["name"].(string)
		labels, _ := meta["labels"].(map[string]any)
		for k, v := range labels {
			o.labels[k], _ = v.(string)
		}
		found = append(found, o)
	}
	slices.SortFunc(found, func(a, b clusterObject) int {
		return cmp.Or(strings.Compare(a.namespace, b.namespace), strings.Compare(a.name, b.name))
	})
	return found, nil
}

// stateKey says what is wrong with the use of a key, 0 if nothing is.
func (h *fakeHost) stateKey(key string) hostabi.Errno {
	switch {
	case !h.allows(hostabi.ModuleKV):
		return hostabi.EACCES
	case key == "" || len(key) > hostabi.MaxKeyBytes || !utf8.ValidString(key):
		return hostabi.EINVAL
	}
	return h.noCluster()
}

func (h *fakeHost) KVGet(key string, buf []byte) int32 {
	if errno := h.stateKey(key); errno != 0 {
		return int32(errno)
	}
	value, set := h.state[key]
	if !set {
		value = h.plugin.State[key]
	}
	if len(value) == 0 {
		return int32(hostabi.ENOENT)
	}
	return fill(buf, value)
}

func (h *fakeHost) KVSet(key, value string) int32 {
	if errno := h.stateKey(key); errno != 0 {
		return int32(errno)
	}
	_, again := h.state[key]
	if len(value) > hostabi.MaxStateValue || !again && len(h.state) == hostabi.MaxStateKeys {
		return int32(hostabi.E2BIG)
	}
	if h.state == nil {
		h.state = map[string][]byte{}
	}
	// The guest may use the memory of both again.
	h.state[strings.Clone(key)] = []byte(value)
	return 0
}

// keepState stores what a hook that has decided put into the plugin's state.
func (h *fakeHost) keepState() error {
	next := maps.Clone(h.plugin.State)
	for key, value := range h.state {
		if next == nil {
			next = map[string][]byte{}
		}
		if next[key] = value; len(value) == 0 {
			delete(next, key)
		}
	}
	if len(next) > hostabi.MaxStateKeys {
		return fmt.Errorf("the plugin's state would have %d keys, the most is %d", len(next), hostabi.MaxStateKeys)
	}
	h.plugin.State = next
	return nil
}
