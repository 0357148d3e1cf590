// Command admission-baseline is the cleat plugin that holds pods of labelled
// namespaces to a baseline.
package main

import (
	"strconv"

	"github.com/cleat-dev/cleat/pluginsdk/admission"
)

func main() {}

// Match rules of the manifest.
const (
	ruleEnforceCreate = iota
	ruleEnforceUpdate
	ruleEnforceEphemeral
	ruleAutomount
)

func init() {
	b := newBaseline()
	admission.Register(admission.Plugin{Mutate: b.mutate, Validate: b.validate})
}

// baseline holds the fields the policy looks at.
type baseline struct {
	hostNamespaces []*admission.Path
	containers     []containerList
	automount      *admission.Path
}

// containerList is one of the lists of containers in a pod.
type containerList struct {
	field      string
	image      *admission.Path
	privileged *admission.Path
}

func newBaseline() *baseline {
	b := &baseline{
		hostNamespaces: []*admission.Path{
			admission.NewPath("spec.hostNetwork"),
			admission.NewPath("spec.hostPID"),
			admission.NewPath("spec.hostIPC"),
		},
		automount: admission.NewPath("spec.automountServiceAccountToken"),
	}
	for _, field := range []string{"spec.initContainers", "spec.containers", "spec.ephemeralContainers"} {
		b.containers = append(b.containers, containerList{
			field:      field,
			image:      admission.NewPath(field + "[*].image"),
			privileged: admission.NewPath(field + "[*].securityContext.privileged"),
		})
	}
	return b
}

// mutate takes the service-account token away, whatever the pod asks for.
func (b *baseline) mutate(r *admission.Request) {
	if !r.Rule(ruleAutomount) {
		return
	}
	if v := r.Get(b.automount); v.IsNull() || v.IsTrue() {
		r.SetBool(b.automount, admission.Single, false)
	}
}

func (b *baseline) validate(r *admission.Request) {
	if !r.Rule(ruleEnforceCreate) && !r.Rule(ruleEnforceUpdate) && !r.Rule(ruleEnforceEphemeral) {
		return
	}
	var found findings
	for _, p := range b.hostNamespaces {
		if r.Get(p).IsTrue() {
			found.add(p.String() + ": true is not allowed in this namespace; leave it out")
		}
	}
	for _, c := range b.containers {
		c.check(r, &found)
	}
	if message := found.message(); message != "" {
		r.Deny(message)
	}
}

func (c containerList) check(r *admission.Request, found *findings) {
	privileged := r.Get(c.privileged).List()
	for i := 0; ; i++ {
		v, ok := privileged.Next()
		if !ok {
			break
		}
		if v.IsTrue() {
			found.add(c.field + "[" + strconv.Itoa(i) + "].securityContext.privileged: true is not allowed in this namespace; leave it out")
		}
	}
	images := r.Get(c.image).List()
	for i := 0; ; i++ {
		v, ok := images.Next()
		if !ok {
			break
		}
		// An absent image is the API server's to refuse.
		image, ok := v.Text()
		if ok && len(image) > 0 && !pinned(image) {
			name := shorten(image)
			found.add(c.field + "[" + strconv.Itoa(i) + "].image: " + strconv.Quote(name) +
				" has no tag or digest; write " + name + ":<tag> or " + name + "@sha256:<digest>")
		}
	}
}
