// Package lookup reads objects of the cluster: declared kinds only, from a
// cache that may lag behind by a moment.
//
// A plugin that uses it imports, and must declare, the capability
// cleat_lookup_v1, and lists the kinds under lookups in its manifest. Every
// error is a wire.Errno: ENOENT for no such object, EIO while the cache is not
// filled yet, EACCES for a kind the manifest does not list, ENOTSUP where there
// is no cluster to ask.
package lookup

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// Get returns the value at a field path of an object, null when it is absent; a
// path with [*] gives a list. The whole object, for path "", is JSON. kind is
// v1/Namespace or apps/v1/Deployment; namespace is "" for a cluster-scoped
// object.
func Get(kind, namespace, name, path string) (wire.Value, error) {
	return value(abi.Fill(512, func(buf []byte) int32 { return abi.LookupGet(kind, namespace, name, path, buf) }))
}

// List returns a list with the value at a field path of every object of a kind,
// in the order of namespace and name. namespace "" is all namespaces; selector
// is a label selector as kubectl writes it, "" for all. More than 4096 objects
// are wire.E2BIG.
func List(kind, namespace, selector, path string) (wire.Value, error) {
	return value(abi.Fill(4096, func(buf []byte) int32 { return abi.LookupList(kind, namespace, selector, path, buf) }))
}

func value(encoded []byte, err error) (wire.Value, error) {
	if err != nil {
		return wire.Value{}, err
	}
	v, rest, ok := wire.Parse(encoded)
	if !ok || len(rest) > 0 {
		return wire.Value{}, wire.EIO
	}
	return v, nil
}
