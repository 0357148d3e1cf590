package hostabi

// The version of the ABI described by this package. Within a major version
// functions, message fields and value tags are only ever added.
const (
	ABIMajor = 1
	ABIMinor = 1
)

// ManifestSection is the name of the wasm custom section that holds a plugin's
// manifest as canonical JSON.
const ManifestSection = "cleat.plugin"

// Import modules. A module is a capability with its major version: a guest
// that imports from one must declare it, and the lock must grant it.
const (
	ModuleCore       = "cleat_core_v1"
	ModuleObject     = "cleat_object_v1"
	ModuleObjectJSON = "cleat_object_json_v1"
	ModuleRequest    = "cleat_request_v1"
	ModuleRender     = "cleat_render_v1"
	ModuleLookup     = "cleat_lookup_v1"
	ModuleKV         = "cleat_kv_v1"
)

// Import modules outside the capability scheme. Only the functions ForeignImports
// lists may be linked.
const (
	ModuleWASI = "wasi_snapshot_preview1"
	ModuleEnv  = "env"
)

// Guest exports.
const (
	ExportMemory            = "memory"
	ExportInitialize        = "_initialize" // called once if present, before cleat_init
	ExportABIMarker         = "cleat_abi_1" // func(); never called, its presence states the ABI major
	ExportInit              = "cleat_init"
	ExportDatastorePlan     = "cleat_datastore_plan"
	ExportCNIPlan           = "cleat_cni_plan"
	ExportDeployerRender    = "cleat_deployer_render"
	ExportAdmissionMutate   = "cleat_admission_mutate"
	ExportAdmissionValidate = "cleat_admission_validate"
)

// Point is the name of an extension point.
type Point string

// The extension points of ABI v1.
const (
	PointDatastore Point = "datastore"
	PointCNI       Point = "cni"
	PointAdmission Point = "admission"
	PointDeployer  Point = "deployer"
)

// Points returns every extension point, in the order a node meets them.
func Points() []Point {
	return []Point{PointDatastore, PointCNI, PointAdmission, PointDeployer}
}

// Capabilities returns every import module that a manifest may declare.
func Capabilities() []string {
	return []string{ModuleCore, ModuleObject, ModuleObjectJSON, ModuleRequest, ModuleRender, ModuleLookup, ModuleKV}
}

// Operation is what an API request does to an object.
type Operation string

// The operations an admission rule may name.
const (
	OperationCreate  Operation = "CREATE"
	OperationUpdate  Operation = "UPDATE"
	OperationDelete  Operation = "DELETE"
	OperationConnect Operation = "CONNECT"
)

// Operations returns every operation.
func Operations() []Operation {
	return []Operation{OperationCreate, OperationUpdate, OperationDelete, OperationConnect}
}

// FailurePolicy says what a plugin error means for the request that met it.
type FailurePolicy string

const (
	// FailurePolicyFail turns a plugin error into a refused request.
	FailurePolicyFail FailurePolicy = "fail"
	// FailurePolicyIgnore logs the error and goes on without the plugin.
	FailurePolicyIgnore FailurePolicy = "ignore"
)

// Results of a plan hook (datastore, cni, deployer); negative is an errno.
const (
	PlanDecided int32 = 0 // output_set was called with the plan
	PlanNotMine int32 = 1 // the input is for another plugin
)

// Results of an admission hook; negative is an errno.
const (
	VerdictAllow int32 = 0
	VerdictDeny  int32 = 1 // deny was called with the message
)

// Levels of core.log; the numbers are those of log/slog.
const (
	LogDebug int32 = -4
	LogInfo  int32 = 0
	LogWarn  int32 = 4
	LogError int32 = 8
)

// RequestField selects what request_get returns. Every field is text.
type RequestField int32

// The fields of a request. Boolean fields are "true" or "false".
const (
	RequestOperation   RequestField = 0
	RequestGroup       RequestField = 1
	RequestVersion     RequestField = 2
	RequestKind        RequestField = 3
	RequestResource    RequestField = 4
	RequestSubresource RequestField = 5
	RequestNamespace   RequestField = 6
	RequestName        RequestField = 7
	RequestUser        RequestField = 8
	RequestDryRun      RequestField = 9
	RequestID          RequestField = 10
	RequestUserUID     RequestField = 11
)

// RequestFieldNames returns the names of the request fields, indexed by field.
func RequestFieldNames() []string {
	return []string{
		"operation", "group", "version", "kind", "resource", "subresource",
		"namespace", "name", "user", "dry_run", "id",
		"user_uid",
	}
}

// Which object object_json returns.
const (
	ObjectNew int32 = 0 // the object of the request
	ObjectOld int32 = 1 // the object as stored, on UPDATE and DELETE
)

// Limits every host holds and every guest may rely on.
const (
	MaxValueBytes    = 1 << 20 // one value, text or JSON document crossing the boundary on the hot path
	MaxMessageBytes  = 4 << 20 // one input, output or rendered document stream at a plan point
	MaxTextBytes     = 4 << 10 // one denial, warning, audit value or error text; longer text is cut
	MaxLogBytes      = 16 << 10
	MaxWarnings      = 32 // warnings, and audit annotations, of one hook call
	MaxMutations     = 1024
	MaxPaths         = 256 // registered by one instance
	MaxManifestBytes = 64 << 10
	MaxMatchRules    = 64 // the width of the rules bitmask
	MaxRandomBytes   = 4 << 10
	MaxLookups       = 64       // kinds a manifest may ask to look up
	MaxLookupObjects = 4096     // objects one lookup_list answers for
	MaxKeyBytes      = 253      // one key of the plugin's state
	MaxStateValue    = 64 << 10 // one value of the plugin's state
	MaxStateKeys     = 256      // keys of the plugin's state
	MaxStateBytes    = 1 << 20  // all of it, as it is stored (base64 in JSON)
	MaxClaims        = 32       // patterns in a list of a deployer's manifest
)
