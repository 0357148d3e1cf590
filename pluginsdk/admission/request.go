package admission

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
)

// Request is the request a handler decides. It is valid until the handler
// returns, and so is every byte slice it hands out.
//
// The first host function that fails is remembered: reads give zero values from
// then on, and the hook ends as a plugin error instead of a verdict. Handlers
// need not check.
type Request struct {
	handle  int32
	rules   uint64
	denied  bool
	errno   wire.Errno
	failure string // what failed
	arena   []byte // what this hook has read
}

// Rule reports whether match rule n of the manifest, from 0, matched.
func (r *Request) Rule(n int) bool { return n >= 0 && n < 64 && r.rules>>n&1 == 1 }

// Fail ends the hook as a plugin error: what the manifest's failure policy says
// is done, and the text is logged.
func (r *Request) Fail(text string) { r.fail(text, wire.EINVAL) }

func (r *Request) fail(what string, errno wire.Errno) {
	if r.errno == 0 {
		r.errno, r.failure = errno, what
	}
}

func (r *Request) check(n int32, what, detail string) bool {
	if n < 0 {
		r.fail(describe(what, detail), wire.Errno(n))
	}
	return n >= 0
}

func describe(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + " " + detail
}

// Get returns the value at a path; null when it is absent. A path with [*]
// gives a list, see Value.List.
func (r *Request) Get(p *Path) wire.Value {
	return r.value("get", p.text, r.fill(512, "get", p.text, func(buf []byte) int32 { return abi.ObjectGet(r.handle, p.id, buf) }))
}

// value decodes what fill returned; nil is null.
func (r *Request) value(what, detail string, raw []byte) wire.Value {
	if raw == nil {
		return wire.Value{}
	}
	v, rest, ok := wire.Parse(raw)
	if !ok || len(rest) > 0 {
		r.fail(describe(what, detail), wire.EIO)
		return wire.Value{}
	}
	return v
}

// fill reads into the arena, which grows to what one request needs and then
// stays. nil means failure.
func (r *Request) fill(size int, what, detail string, call func(buf []byte) int32) []byte {
	if r.errno < 0 {
		return nil
	}
	for range 3 {
		used := len(r.arena)
		if cap(r.arena)-used < size {
			// Values read before keep the old memory.
			r.arena, used = make([]byte, 0, max(2*cap(r.arena), size)), 0
		}
		free := r.arena[used:cap(r.arena)]
		n := int(call(free))
		if !r.check(int32(n), what, detail) {
			return nil
		}
		if n <= len(free) {
			r.arena = r.arena[:used+n]
			return free[:n:n]
		}
		size = n
	}
	r.fail(describe(what, detail), wire.EIO)
	return nil
}

func (r *Request) field(field int32, name string) string {
	return string(r.fill(256, "request field", name, func(buf []byte) int32 { return abi.RequestGet(r.handle, field, buf) }))
}

// Operation returns CREATE, UPDATE, DELETE or CONNECT.
func (r *Request) Operation() string { return r.field(abi.RequestOperation, "operation") }

// Group returns the API group, "" for the core group.
func (r *Request) Group() string { return r.field(abi.RequestGroup, "group") }

// Version returns the API version.
func (r *Request) Version() string { return r.field(abi.RequestVersion, "version") }

// Kind returns the kind of the object.
func (r *Request) Kind() string { return r.field(abi.RequestKind, "kind") }

// Resource returns the resource, "pods" for example.
func (r *Request) Resource() string { return r.field(abi.RequestResource, "resource") }

// Subresource returns the subresource, "" if there is none.
func (r *Request) Subresource() string { return r.field(abi.RequestSubresource, "subresource") }

// Namespace returns the namespace, "" for a cluster-scoped object.
func (r *Request) Namespace() string { return r.field(abi.RequestNamespace, "namespace") }

// Name returns the object's name, "" when the server is to generate it.
func (r *Request) Name() string { return r.field(abi.RequestName, "name") }

// User returns the name of the user who asks.
func (r *Request) User() string { return r.field(abi.RequestUser, "user") }

// UserUID returns the unique id of the user who asks, "" if there is none. It
// needs ABI 1.1.
func (r *Request) UserUID() string { return r.field(abi.RequestUserUID, "user_uid") }

// UserGroups returns the groups of the user who asks. It needs ABI 1.1.
func (r *Request) UserGroups() []string { return texts(r.userGroups()) }

// InGroup reports whether the user who asks is in a group, without allocating.
// It needs ABI 1.1.
func (r *Request) InGroup(group string) bool {
	groups := r.userGroups()
	for v, ok := groups.Next(); ok; v, ok = groups.Next() {
		if text, _ := v.Text(); string(text) == group {
			return true
		}
	}
	return false
}

func (r *Request) userGroups() wire.List {
	return r.value("user groups", "", r.fill(512, "user groups", "", func(buf []byte) int32 {
		return abi.UserGroupsGet(r.handle, buf)
	})).List()
}

// UserExtra returns what the authenticator adds to the user who asks under a
// key; ok is false when it adds nothing there. It needs ABI 1.1.
func (r *Request) UserExtra(key string) (values []string, ok bool) {
	absent := false
	raw := r.fill(256, "user extra", key, func(buf []byte) int32 {
		n := abi.UserExtraGet(r.handle, key, buf)
		if absent = wire.Errno(n) == wire.ENOENT; absent {
			return 0
		}
		return n
	})
	if raw == nil || absent {
		return nil, false
	}
	v := r.value("user extra", key, raw)
	return texts(v.List()), v.Tag == wire.TagList
}

// texts copies a list of strings.
func texts(list wire.List) []string {
	values := make([]string, 0, list.Len())
	for v, ok := list.Next(); ok; v, ok = list.Next() {
		text, _ := v.Text()
		values = append(values, string(text))
	}
	return values
}

// DryRun reports whether nothing will be stored.
func (r *Request) DryRun() bool { return r.field(abi.RequestDryRun, "dry_run") == "true" }

// ID returns the request's id, as it appears in logs and audit events.
func (r *Request) ID() string { return r.field(abi.RequestID, "id") }

// NamespaceLabel returns the value of a label of the request's namespace; ok is
// false when there is none.
func (r *Request) NamespaceLabel(key string) (value string, ok bool) {
	absent := false
	text := r.fill(64, "namespace label", key, func(buf []byte) int32 {
		n := abi.NamespaceLabelGet(r.handle, key, buf)
		if absent = wire.Errno(n) == wire.ENOENT; absent {
			return 0
		}
		return n
	})
	return string(text), text != nil && !absent
}

// JSON returns the whole object as JSON, null when it is absent. A plugin that
// calls it imports, and must declare, the capability cleat_object_json_v1.
func (r *Request) JSON() []byte { return r.json(0) }

// OldJSON is JSON for the object as stored, on UPDATE and DELETE.
func (r *Request) OldJSON() []byte { return r.json(1) }

func (r *Request) json(which int32) []byte {
	return r.fill(8192, "object", "as JSON", func(buf []byte) int32 { return abi.ObjectJSON(r.handle, which, buf) })
}

// Deny refuses the request with status 403. The message names the field, the
// value and the way out. A later call replaces it.
func (r *Request) Deny(message string) { r.DenyWithStatus(0, message) }

// DenyWithStatus is Deny with an HTTP status, 400 to 599.
func (r *Request) DenyWithStatus(status int, message string) {
	r.denied = true
	r.check(abi.Deny(r.handle, message, int32(status)), "deny", "")
}

// Warn adds a warning the client shows, on one line.
func (r *Request) Warn(text string) { r.check(abi.Warn(r.handle, text), "warn", "") }

// Audit adds an annotation to the audit event, under the plugin's name.
func (r *Request) Audit(key, value string) {
	r.check(abi.Audit(r.handle, key, value), "audit annotation", key)
}
