// Command admission-labels is the cleat plugin that requires labels and
// annotations, and sets those that have a default.
package main

import (
	"errors"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
	"github.com/cleat-dev/cleat/pluginsdk/config"
	"github.com/cleat-dev/cleat/pluginsdk/selector"
)

func main() {}

// Match rules of the manifest.
const (
	ruleCreate = iota
	ruleLabels
	ruleAnnotations
)

func init() {
	p := &plugin{controllers: admission.NewPath("metadata.ownerReferences[*].controller")}
	pluginsdk.OnInit(p.configure)
	admission.Register(admission.Plugin{Mutate: p.mutate, Validate: p.validate})
}

// plugin decides with its configuration.
type plugin struct {
	controllers *admission.Path

	kinds     []string
	sets      [2]set // labels and annotations
	skipOwned bool
	exempt    selector.Selector
	own       map[string]*admission.Path // labels the selector asks of a namespace
}

// set is what is wanted of the labels, or of the annotations.
type set struct {
	changed  int // rule of an update that changed them
	required []requirement
	defaults []value
}

type requirement struct {
	path    *admission.Path
	pattern pattern
}

type value struct {
	path *admission.Path
	text string
}

func (p *plugin) configure() error {
	c, err := config.Read()
	if err != nil {
		return err
	}
	p.kinds, p.skipOwned = c.Strings("kinds"), c.Bool("skip_owned")
	for i, kind := range p.kinds {
		if !contains(knownKinds[:], kind) {
			return errors.New("config kinds[" + strconv.Itoa(i) + "]: " + admission.Quote([]byte(kind)) + " is unknown; use " + strings.Join(knownKinds[:], ", "))
		}
	}
	p.sets = [2]set{{changed: ruleLabels}, {changed: ruleAnnotations}}
	for i, name := range [2]string{"labels", "annotations"} {
		if err := p.sets[i].configure(c, name); err != nil {
			return err
		}
	}
	if p.exempt, err = selector.Parse(c.String("exempt_namespaces")); err != nil {
		return errors.New("config exempt_namespaces: " + err.Error())
	}
	p.own = map[string]*admission.Path{}
	for _, key := range p.exempt.Keys() {
		if p.own[key], err = admission.RegisterPath(member("labels", key)); err != nil {
			return err
		}
	}
	return nil
}

var knownKinds = [...]string{"Namespace", "Pod", "Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob"}

// configure reads what is wanted of the labels or annotations.
func (s *set) configure(c config.Config, name string) error {
	register := func(key string) (*admission.Path, error) {
		if !selector.IsKey(key) {
			return nil, errors.New(admission.Quote([]byte(key)) + " is no key; write team or example.org/team, for example")
		}
		return admission.RegisterPath(member(name, key))
	}
	for _, e := range c.Map("required_" + name) {
		path, err := register(e.Key)
		if err != nil {
			return errors.New("config required_" + name + ": " + err.Error())
		}
		s.required = append(s.required, requirement{path, pattern(e.Value)})
	}
	for _, e := range c.Map("default_" + name) {
		fail := func(why string) error { return errors.New("config default_" + name + ": " + why) }
		path, err := register(e.Key)
		if err != nil {
			return fail(err.Error())
		}
		if name == "labels" && !selector.IsValue(e.Value) {
			return fail(e.Key + ": " + admission.Quote([]byte(e.Value)) + " is no value of a label")
		}
		for _, r := range s.required {
			if r.path.String() == path.String() && !r.pattern.matches([]byte(e.Value)) {
				return fail(e.Key + ": " + admission.Quote([]byte(e.Value)) + " is not what required_" + name + " wants: " + r.pattern.explain())
			}
		}
		s.defaults = append(s.defaults, value{path, e.Value})
	}
	return nil
}

// member returns the path of a label or annotation; a key that IsKey accepts
// needs no escapes.
func member(name, key string) string {
	if strings.ContainsAny(key, "./") {
		return "metadata." + name + "['" + key + "']"
	}
	return "metadata." + name + "." + key
}

func contains(list []string, text string) bool {
	for _, e := range list {
		if e == text {
			return true
		}
	}
	return false
}

// concerns reports whether labels or annotations are new in the request.
func (s *set) concerns(r *admission.Request) bool {
	return r.Rule(ruleCreate) || r.Rule(s.changed)
}

func (p *plugin) mutate(r *admission.Request) {
	var missing []value
	for i := range p.sets {
		if !p.sets[i].concerns(r) {
			continue
		}
		for _, d := range p.sets[i].defaults {
			if r.Get(d.path).IsNull() {
				missing = append(missing, d)
			}
		}
	}
	if len(missing) == 0 || p.leavesAlone(r) {
		return
	}
	for _, d := range missing {
		r.SetString(d.path, admission.Single, d.text)
	}
}

func (p *plugin) validate(r *admission.Request) {
	var found admission.Findings
	for i := range p.sets {
		if !p.sets[i].concerns(r) {
			continue
		}
		for _, want := range p.sets[i].required {
			v := r.Get(want.path)
			text, ok := v.Text()
			switch {
			case !ok:
				found.Add(want.path.String() + " is missing; set it to " + want.pattern.explain())
			case !want.pattern.matches(text):
				found.Add(want.path.String() + ": " + admission.Quote(text) + " is not allowed; use " + want.pattern.explain())
			}
		}
	}
	if message := found.Message(); message != "" && !p.leavesAlone(r) {
		r.Deny(message)
	}
}

// leavesAlone reports whether the object is not this plugin's business. It is
// asked when there is something to set or to refuse, which is seldom.
func (p *plugin) leavesAlone(r *admission.Request) bool {
	kind := r.Kind()
	switch {
	case !contains(p.kinds, kind):
		return true
	case p.skipOwned && p.owned(r):
		return true
	// Who keeps the cluster going must not fail because an object is older than
	// the rules.
	case !r.Rule(ruleCreate) && isControlPlane(r.User()):
		return true
	case kind == "Namespace":
		return isSystemNamespace(r.Name()) || !p.exempt.Empty() && p.exempt.Matches(func(key string) (string, bool) {
			text, ok := r.Get(p.own[key]).Text()
			return string(text), ok
		})
	}
	return !p.exempt.Empty() && p.exempt.Matches(r.NamespaceLabel)
}

// owned reports whether a controller made the object.
func (p *plugin) owned(r *admission.Request) bool {
	owners := r.Get(p.controllers).List()
	for v, ok := owners.Next(); ok; v, ok = owners.Next() {
		if v.IsTrue() {
			return true
		}
	}
	return false
}

func isControlPlane(user string) bool {
	switch user {
	case "system:apiserver", "system:kube-controller-manager", "system:kube-scheduler", "system:cloud-controller-manager":
		return true
	}
	return strings.HasPrefix(user, "system:serviceaccount:kube-system:") || strings.HasPrefix(user, "system:node:")
}

// isSystemNamespace reports whether Kubernetes makes the namespace itself, and
// would not work without it.
func isSystemNamespace(name string) bool {
	switch name {
	case "default", "kube-node-lease", "kube-public", "kube-system":
		return true
	}
	return false
}
