package hostabi

// Type is a wasm number type as it stands in a function signature.
type Type string

// The types ABI v1 uses.
const (
	I32 Type = "i32"
	I64 Type = "i64"
)

// Role says what a parameter is for, so that generated declarations can give
// it the natural type of a language.
type Role string

const (
	RoleNumber Role = "number" // a plain number
	RoleIn     Role = "in"     // address of guest bytes the host reads; the next parameter is their length
	RoleLen    Role = "len"    // byte length of the address before it
	RoleBuf    Role = "buf"    // address of a guest buffer the host fills; the next parameter is its size
	RoleLimit  Role = "limit"  // size in bytes of the buffer before it
)

// Param is one parameter of a function.
type Param struct {
	Name string
	Type Type
	Role Role
	Doc  string
}

// Function is one row of the ABI: a host function a guest may import, or an
// export the host calls.
type Function struct {
	Module  string // import module, "" for an export
	Name    string
	Since   string // "1.0": the ABI version that brought it
	Params  []Param
	Results []Type // none or one
	Result  string // what the result means
	Errors  []Errno
	Points  []Point // exports only: the points it serves, nil = every plugin
	Doc     string
}

// ParamTypes returns the wasm types of the parameters.
func (f Function) ParamTypes() []Type {
	types := make([]Type, len(f.Params))
	for i, p := range f.Params {
		types[i] = p.Type
	}
	return types
}

// Import returns the host function of that module and name.
func Import(module, name string) (Function, bool) {
	for _, f := range Imports() {
		if f.Module == module && f.Name == name {
			return f, true
		}
	}
	return Function{}, false
}

// Export returns the guest export of that name.
func Export(name string) (Function, bool) {
	for _, f := range Exports() {
		if f.Name == name {
			return f, true
		}
	}
	return Function{}, false
}

func number(name, doc string) Param { return Param{name, I32, RoleNumber, doc} }

func in(ptr, length, doc string) []Param {
	return []Param{{ptr, I32, RoleIn, doc}, {length, I32, RoleLen, "length in bytes"}}
}

func out(doc string) []Param {
	return []Param{{"buf", I32, RoleBuf, doc}, {"limit", I32, RoleLimit, "size of buf in bytes"}}
}

func params(groups ...any) []Param {
	var all []Param
	for _, g := range groups {
		switch g := g.(type) {
		case Param:
			all = append(all, g)
		case []Param:
			all = append(all, g...)
		}
	}
	return all
}

const (
	resultLength = "length in bytes; more than limit = nothing was written, call again with a buffer of that size; negative = errno"
	resultStatus = "0; negative = errno"
)

// status is a function that answers 0 or an errno.
func status(module, name, doc string, ps []Param, errs ...Errno) Function {
	return Function{Module: module, Name: name, Since: "1.0", Params: ps, Results: []Type{I32},
		Result: resultStatus, Errors: errs, Doc: doc}
}

// filler is a function that writes into a guest buffer.
func filler(module, name, doc string, ps []Param, errs ...Errno) Function {
	return Function{Module: module, Name: name, Since: "1.0", Params: ps, Results: []Type{I32},
		Result: resultLength, Errors: errs, Doc: doc}
}

// since marks a function as newer than the first version.
func since(version string, f Function) Function {
	f.Since = version
	return f
}

// Imports returns the host functions of ABI v1, by module. The slice is the
// caller's.
func Imports() []Function {
	handle := number("handle", "the handle the running hook was called with")
	pathID := number("path_id", "a number path_register returned")
	index := number("index", "position in the flattened list of a path with [*]; -1 for a path without")
	value := in("ptr", "len", "one encoded value")
	kind := in("kind_ptr", "kind_len", "version/Kind or group/version/Kind")
	namespace := in("namespace_ptr", "namespace_len", "namespace; empty = none, for lookup_list all")
	path := in("path_ptr", "path_len", "field path; empty = the whole object")

	return []Function{
		status(ModuleCore, "log", "Writes one line to the host's log, under the plugin's name. Text over 16 KiB is cut.",
			params(number("level", "-4 debug, 0 info, 4 warn, 8 error"), in("ptr", "len", "UTF-8 text")), EINVAL),
		filler(ModuleCore, "input_get", "The input of the running plan hook, as canonical JSON.",
			params(out("receives the JSON")), EINVAL, ENOTSUP),
		status(ModuleCore, "output_set", "Sets the result of the running plan hook, as JSON; a later call replaces it.",
			params(in("ptr", "len", "JSON text")), EINVAL, E2BIG, ENOTSUP),
		status(ModuleCore, "error_set", "Says in words why the hook, or cleat_init, is about to return a negative number. Text over 4 KiB is cut.",
			params(in("ptr", "len", "UTF-8 text: field, value and the way out")), EINVAL),
		filler(ModuleCore, "config_get", "The plugin's configuration from the lock, as canonical JSON; {} when there is none. Allowed at any time from cleat_init on.",
			params(out("receives the JSON")), EINVAL),

		{Module: ModuleCore, Name: "now", Since: "1.1", Results: []Type{I64},
			Result: "nanoseconds since 1970-01-01 UTC",
			Doc:    "The time at which the running hook was entered; it does not advance while the hook runs, so that a decision can be replayed."},
		since("1.1", filler(ModuleCore, "random", "Fills the whole buffer with random bytes, at most 4 KiB (E2BIG).",
			params(out("receives the bytes")), EINVAL, E2BIG)),

		{Module: ModuleObject, Name: "path_register", Since: "1.0",
			Params: params(in("ptr", "len", "field path, UTF-8")), Results: []Type{I32},
			Result: "path id, 0 or more; negative = errno", Errors: []Errno{EINVAL, EACCES, E2BIG, ENOTSUP},
			Doc: "Makes a field path known and returns its id. Only cleat_init may call it (ENOTSUP elsewhere). The path, or one above it, must be among the read or write paths of manifest and lock (EACCES). The same path gives the same id. At most 256 paths (E2BIG)."},
		filler(ModuleObject, "object_get", "The value at a read path in the object of the request, as the hook found it: mutations of the running hook do not show. An absent value, like any value of an absent object, is tag 0. A path with [*] gives a flat list in document order, with tag 0 where an element lacks the member, so that paths with the same list part line up; it is empty when there is no list.",
			params(handle, pathID, out("receives one encoded value")), EINVAL, EACCES, EBADF, E2BIG, EIO),
		status(ModuleObject, "object_set", "Records a mutation: sets the value at a write path. Maps on the way that are absent are made. Allowed in cleat_admission_mutate only (ENOTSUP); mutations are applied in order once it has returned 0, and dropped otherwise.",
			params(handle, pathID, index, value), EINVAL, EACCES, ENOENT, EBADF, E2BIG, ENOTSUP),
		status(ModuleObject, "object_remove", "Records a mutation: removes the member at a write path, or, when the path ends in [*], that element. To remove what is absent is no error. Positions count in the object as the hook found it, whatever was removed before.",
			params(handle, pathID, index), EINVAL, EACCES, ENOENT, EBADF, E2BIG, ENOTSUP),
		status(ModuleObject, "object_append", "Records a mutation: appends an element to the list at a write path, which is made when absent. The path names the list, without a last [*].",
			params(handle, pathID, index, value), EINVAL, EACCES, ENOENT, EBADF, E2BIG, ENOTSUP),

		filler(ModuleObjectJSON, "object_json", "The whole object as JSON, past the declared read paths; hence a capability of its own. An absent object is null.",
			params(handle, number("which", "0 the object of the request, 1 the stored one"), out("receives the JSON")), EINVAL, EBADF, E2BIG, EIO),

		filler(ModuleRequest, "request_get", "One field of the request, as text; empty when it has none.",
			params(handle, number("field", "0 operation, 1 group, 2 version, 3 kind, 4 resource, 5 subresource, 6 namespace, 7 name, 8 user, 9 dry_run, 10 id, 11 user_uid (since 1.1)"), out("receives the text")), EINVAL, EBADF),
		filler(ModuleRequest, "namespace_label_get", "The value of a label of the request's namespace; ENOENT when it has no such label or the object is cluster-scoped.",
			params(handle, in("ptr", "len", "label key"), out("receives the text")), EINVAL, ENOENT, EBADF, EIO),
		since("1.1", filler(ModuleRequest, "user_groups_get", "The groups of the user who made the request.",
			params(handle, out("receives one encoded value, a list of strings")), EINVAL, EBADF, E2BIG)),
		since("1.1", filler(ModuleRequest, "user_extra_get", "What the authenticator adds to the user under a key; ENOENT when it adds nothing there.",
			params(handle, in("ptr", "len", "key"), out("receives one encoded value, a list of strings")), EINVAL, ENOENT, EBADF, E2BIG)),
		status(ModuleRequest, "deny", "Sets message and status code of a denial; the hook then returns 1. A later call replaces it. Text over 4 KiB is cut.",
			params(handle, in("ptr", "len", "message, UTF-8: field, value and the way out"), number("code", "HTTP status 400 to 599; 0 = 403")), EINVAL, EBADF),
		status(ModuleRequest, "warn", "Adds a warning for the client, at most 32. Text over 4 KiB is cut.",
			params(handle, in("ptr", "len", "UTF-8 text on one line")), EINVAL, EBADF, E2BIG),
		status(ModuleRequest, "audit", "Adds an annotation to the audit event, under the plugin's name, at most 32.",
			params(handle, in("key_ptr", "key_len", "key: letters, digits, '-', '_' and '.'"), in("value_ptr", "value_len", "UTF-8 text")), EINVAL, EBADF, E2BIG),

		filler(ModuleRender, "render_yaml", "Parses a stream of YAML or JSON documents and returns a canonical JSON array, one element for each document, null for an empty one. When the text is malformed the result is EINVAL and the host keeps the parser's message as the hook's error text, which error_set may replace. In an admission hook a text over 1 MiB is E2BIG and one of more than 50,000 values EINVAL; at other points it is 4 MiB and 250,000.",
			params(in("ptr", "len", "YAML or JSON text"), out("receives the JSON")), EINVAL, E2BIG),
		since("1.1", filler(ModuleRender, "render_helm", "Renders the Helm chart that is the input of the running hook, or the archive the request carries: HelmRequest in, HelmResult out. Templates see neither network nor cluster. When rendering fails the result is EINVAL and the host keeps the message as the hook's error text.",
			params(in("ptr", "len", "HelmRequest as JSON"), out("receives the JSON")), EINVAL, E2BIG, ENOTSUP)),
		since("1.1", filler(ModuleRender, "render_kustomize", "Builds the kustomization in the directory that is the input of the running hook: KustomizeRequest in, a JSON array of objects out. Nothing outside the directory is read. When building fails the result is EINVAL and the host keeps the message as the hook's error text.",
			params(in("ptr", "len", "KustomizeRequest as JSON"), out("receives the JSON")), EINVAL, E2BIG, ENOTSUP)),

		since("1.1", filler(ModuleLookup, "lookup_get", "The value at a field path of an object in the cluster, or of the whole object when the path is empty, from a cache that may lag behind by a moment. The kind must be among the lookups of manifest and lock (EACCES). ENOENT when there is no such object; EIO while the cache is not filled yet; ENOTSUP where there is no cluster to ask.",
			params(kind, namespace, in("name_ptr", "name_len", "name"), path, out("receives one encoded value")), EINVAL, EACCES, ENOENT, E2BIG, EIO, ENOTSUP)),
		since("1.1", filler(ModuleLookup, "lookup_list", "The value at a field path of every object of a kind, as a list in the order of namespace and name; otherwise as lookup_get. More than 4096 objects are E2BIG.",
			params(kind, namespace, in("selector_ptr", "selector_len", "label selector as kubectl writes it; empty = all"), path, out("receives one encoded value, a list")), EINVAL, EACCES, E2BIG, EIO, ENOTSUP)),

		since("1.1", filler(ModuleKV, "kv_get", "A value of the plugin's own small state, which all servers share; what the running hook has set shows. ENOENT when there is none.",
			params(in("ptr", "len", "key, 1 to 253 bytes of UTF-8"), out("receives the bytes")), EINVAL, ENOENT, EIO, ENOTSUP)),
		since("1.1", status(ModuleKV, "kv_set", "Records a value for the plugin's state, at most 64 KiB; an empty one removes the key. It is stored once the hook has returned 0 or 1, and dropped when the hook failed or the request is a dry run. ENOTSUP in cleat_init and at the datastore point; E2BIG over 256 keys.",
			params(in("key_ptr", "key_len", "key, 1 to 253 bytes of UTF-8"), in("value_ptr", "value_len", "bytes")), EINVAL, E2BIG, EIO, ENOTSUP)),
	}
}

// Exports returns what a guest exports besides memory. The slice is the caller's.
func Exports() []Function {
	hook := []Param{
		number("handle", "valid until the hook returns"),
		{"rules", I64, RoleNumber, "bit n set = match rule n of the manifest matched"},
	}
	const planResult = "0 decided (output_set was called), 1 not mine, negative = errno"
	const verdict = "0 allow, 1 deny (deny was called), negative = errno: a plugin error, never a verdict"
	return []Function{
		{Name: ExportABIMarker, Since: "1.0", Doc: "Marks the ABI major the guest was built for. Never called."},
		{Name: ExportInit, Since: "1.0", Results: []Type{I32}, Result: resultStatus,
			Doc: "Called once for each instance, after _initialize. Registers field paths and reads the configuration."},
		{Name: ExportDatastorePlan, Since: "1.0", Results: []Type{I32}, Result: planResult, Points: []Point{PointDatastore},
			Doc: "Decides where cluster state lives: DatastoreRequest in, DatastorePlan out."},
		{Name: ExportCNIPlan, Since: "1.0", Results: []Type{I32}, Result: planResult, Points: []Point{PointCNI},
			Doc: "Decides how pods reach each other: CNIRequest in, CNIPlan out."},
		{Name: ExportDeployerRender, Since: "1.0", Results: []Type{I32}, Result: planResult, Points: []Point{PointDeployer},
			Doc: "Turns a file of the manifests directory into objects: DeployRequest in, DeployResult out."},
		{Name: ExportAdmissionMutate, Since: "1.0", Params: hook, Results: []Type{I32}, Result: verdict, Points: []Point{PointAdmission},
			Doc: "May change the object, or deny the request. Needed when the manifest says admission.mutate."},
		{Name: ExportAdmissionValidate, Since: "1.0", Params: hook, Results: []Type{I32}, Result: verdict, Points: []Point{PointAdmission},
			Doc: "May deny the request. Needed when the manifest says admission.validate."},
	}
}

// Foreign is a function outside the capability scheme that a host links
// because language runtimes expect it.
type Foreign struct {
	Module, Name string
	Params       []Type
	Results      []Type
	Doc          string
}

// ForeignImports returns the WASI subset and env.abort. Every other function
// of the WASI module is linked too, and answers ENOSYS (52).
func ForeignImports() []Foreign {
	wasi := func(name, doc string, ps ...Type) Foreign {
		return Foreign{ModuleWASI, name, ps, []Type{I32}, doc}
	}
	return []Foreign{
		wasi("fd_write", "Descriptors 1 and 2 become log lines, any other is EBADF.", I32, I32, I32, I32),
		wasi("clock_time_get", "A clock.", I32, I64, I32),
		wasi("random_get", "Random bytes.", I32, I32),
		wasi("args_sizes_get", "No arguments.", I32, I32),
		wasi("args_get", "No arguments.", I32, I32),
		wasi("environ_sizes_get", "No environment.", I32, I32),
		wasi("environ_get", "No environment.", I32, I32),
		wasi("sched_yield", "Does nothing; the Go runtime calls it."),
		{ModuleWASI, "proc_exit", []Type{I32}, nil, "Traps."},
		{ModuleEnv, "abort", []Type{I32, I32, I32, I32}, nil, "Traps; AssemblyScript calls it."},
	}
}
