// Package admission is the SDK of the extension point admission: allow, deny
// or change a request to the API server.
//
// A plugin names the field paths it uses, and registers handlers:
//
//	var image = admission.NewPath("spec.containers[*].image")
//
//	func init() {
//		admission.Register(admission.Plugin{Validate: validate})
//	}
//
// The host calls a handler only for requests that match a rule of the
// manifest, and shows it only the fields the manifest declares. This package
// uses neither reflection nor fmt nor JSON, and a hook that allows a request
// allocates nothing once its buffer has grown.
package admission

import (
	"github.com/cleat-dev/cleat/hostabi/wire"
	_ "github.com/cleat-dev/cleat/pluginsdk" // exports cleat_init
	"github.com/cleat-dev/cleat/pluginsdk/internal/abi"
	"github.com/cleat-dev/cleat/pluginsdk/internal/guest"
)

// Plugin is what an admission plugin registers. A nil handler is one the
// manifest does not ask for.
type Plugin struct {
	Mutate   func(*Request) // may change the object, or deny
	Validate func(*Request) // may deny
}

// Path is a field path, known to the host from the start of the plugin.
type Path struct {
	text string
	id   int32
}

// NewPath makes a path and has it registered when the plugin starts; it is of
// no use after that, so call it where package variables are set or in an init
// function. Its syntax is that of package hostabi: spec.containers[*].image,
// metadata.labels['a.b/c'].
func NewPath(text string) *Path {
	p := &Path{text: text, id: int32(wire.EINVAL)}
	guest.OnInit(p.register)
	return p
}

// RegisterPath is NewPath for a path that the configuration says: call it in a
// function given to pluginsdk.OnInit, and only there.
func RegisterPath(text string) (*Path, error) {
	p := &Path{text: text}
	if err := p.register(); err != nil {
		return nil, err
	}
	return p, nil
}

func (p *Path) register() error {
	if p.id = abi.PathRegister(p.text); p.id < 0 {
		return &pathError{p.text, wire.Errno(p.id)}
	}
	return nil
}

// String returns the path as it was given.
func (p *Path) String() string { return p.text }

const (
	exportMutate   = "cleat_admission_mutate"
	exportValidate = "cleat_admission_validate"

	verdictAllow int32 = 0
	verdictDeny  int32 = 1
)

// Register makes p the plugin's decision; call it from an init function.
func Register(p Plugin) {
	// One request serves every call: an instance runs one hook at a time.
	request := &Request{}
	register(exportMutate, p.Mutate, request)
	register(exportValidate, p.Validate, request)
}

func register(export string, handler func(*Request), r *Request) {
	if handler == nil {
		return
	}
	guest.Register(export, func(handle int32, rules uint64) int32 {
		*r = Request{handle: handle, rules: rules, arena: r.arena[:0]}
		handler(r)
		switch {
		case r.errno < 0:
			return guest.Fail(r.errno, r.failure+": "+r.errno.Error())
		case r.denied:
			return verdictDeny
		}
		return verdictAllow
	})
}

type pathError struct {
	path  string
	errno wire.Errno
}

func (e *pathError) Error() string {
	return "field path " + e.path + ": " + e.errno.Error() + "; list it under read_paths or write_paths of the manifest"
}

func (e *pathError) Unwrap() error { return e.errno }
