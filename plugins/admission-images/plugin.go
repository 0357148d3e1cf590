// Command admission-images is the cleat plugin that says where images may come
// from.
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
	ruleUpdate
	ruleEphemeral
)

func init() {
	p := newPlugin()
	pluginsdk.OnInit(p.configure)
	admission.Register(admission.Plugin{Mutate: p.mutate, Validate: p.validate})
}

// plugin decides with its configuration.
type plugin struct {
	places []place

	allowed       []prefix
	requireDigest bool
	rewrites      []rewrite // the longest first
	exempt        selector.Selector
}

// place is a list in a pod that names images.
type place struct {
	list, field string
	path        *admission.Path
	rules       []int // under which it can have changed
}

func newPlugin() *plugin {
	p := &plugin{places: []place{
		{list: "spec.initContainers", field: "image", rules: []int{ruleCreate, ruleUpdate}},
		{list: "spec.containers", field: "image", rules: []int{ruleCreate, ruleUpdate}},
		{list: "spec.ephemeralContainers", field: "image", rules: []int{ruleCreate, ruleEphemeral}},
		{list: "spec.volumes", field: "image.reference", rules: []int{ruleCreate}},
	}}
	for i := range p.places {
		p.places[i].path = admission.NewPath(p.places[i].list + "[*]." + p.places[i].field)
	}
	return p
}

func (p *plugin) configure() error {
	c, err := config.Read()
	if err != nil {
		return err
	}
	p.allowed, p.rewrites = nil, nil
	p.requireDigest = c.Bool("require_digest")
	for i, text := range c.Strings("registries") {
		allowed, err := parsePrefix(text, true)
		if err != nil {
			return errors.New("config registries[" + strconv.Itoa(i) + "]: " + err.Error())
		}
		p.allowed = append(p.allowed, allowed)
	}
	for _, e := range c.Map("rewrites") {
		if err := p.addRewrite(e.Key, e.Value); err != nil {
			return errors.New("config rewrites: " + err.Error())
		}
	}
	if p.exempt, err = selector.Parse(c.String("exempt_namespaces")); err != nil {
		return errors.New("config exempt_namespaces: " + err.Error())
	}
	return p.checkRewrites()
}

func (p *plugin) addRewrite(from, to string) error {
	source, err := parsePrefix(from, false)
	if err != nil {
		return err
	}
	target, err := parsePrefix(to, false)
	if err != nil {
		return err
	}
	at := 0
	for at < len(p.rewrites) && len(p.rewrites[at].from.text) >= len(from) {
		at++
	}
	p.rewrites = append(p.rewrites, rewrite{})
	copy(p.rewrites[at+1:], p.rewrites[at:])
	p.rewrites[at] = rewrite{source, target.text}
	return nil
}

// checkRewrites refuses rewrites that would rewrite what they made: the API
// server may ask twice about one pod.
func (p *plugin) checkRewrites() error {
	for _, r := range p.rewrites {
		img, ok := parseImage([]byte(r.to + "/x"))
		if !ok {
			return errors.New("config rewrites: " + admission.Quote([]byte(r.to)) + " is too long")
		}
		for _, other := range p.rewrites {
			if other.from.covers(img) || strings.HasPrefix(other.from.text, r.to+"/") {
				return errors.New("config rewrites: " + r.from.text + " goes to " + r.to + ", which " + other.from.text +
					" rewrites again; name the last registry at once")
			}
		}
	}
	return nil
}

// exempts reports whether the pods of the namespace are left alone.
func (p *plugin) exempts(r *admission.Request) bool {
	return !p.exempt.Empty() && p.exempt.Matches(r.NamespaceLabel)
}

// changed reports whether a list can have changed in the request.
func (pl *place) changed(r *admission.Request) bool {
	for _, rule := range pl.rules {
		if r.Rule(rule) {
			return true
		}
	}
	return false
}

// mutate rewrites. The namespace is asked about once there is something to do:
// most pods have nothing.
func (p *plugin) mutate(r *admission.Request) {
	if len(p.rewrites) == 0 {
		return
	}
	asked := false
	for i := range p.places {
		pl := &p.places[i]
		if !pl.changed(r) {
			continue
		}
		images := r.Get(pl.path).List()
		for n := 0; ; n++ {
			v, ok := images.Next()
			if !ok {
				break
			}
			text, _ := v.Text()
			img, ok := parseImage(text)
			if !ok {
				continue // validate refuses it
			}
			for j := range p.rewrites {
				if !p.rewrites[j].from.covers(img) {
					continue
				}
				if !asked && p.exempts(r) {
					return
				}
				asked = true
				r.SetString(pl.path, n, p.rewrites[j].apply(img))
				break
			}
		}
	}
}

func (p *plugin) validate(r *admission.Request) {
	if len(p.allowed) == 0 && !p.requireDigest {
		return
	}
	var found admission.Findings
	for i := range p.places {
		pl := &p.places[i]
		if !pl.changed(r) {
			continue
		}
		images := r.Get(pl.path).List()
		for n := 0; ; n++ {
			v, ok := images.Next()
			if !ok {
				break
			}
			// An image that is missing is the API server's to refuse.
			if text, _ := v.Text(); len(text) > 0 {
				if reason := p.reason(text); reason != "" {
					found.Add(pl.list + "[" + strconv.Itoa(n) + "]." + pl.field + ": " + reason)
				}
			}
		}
	}
	if message := found.Message(); message != "" && !p.exempts(r) {
		r.Deny(message)
	}
}

// reason says why an image is refused, "" when it is not.
func (p *plugin) reason(text []byte) string {
	img, ok := parseImage(text)
	if !ok {
		return admission.Quote(text) + " is no image reference; write registry/repository:tag or registry/repository@sha256:digest"
	}
	reason := ""
	if !p.allows(img) {
		reason = admission.Quote(text) + " is " + img.registry() + "/" + clip(img.repository()) + ", which is not allowed; use one of " + p.list()
	}
	if p.requireDigest && !img.digest {
		if reason == "" {
			reason = admission.Quote(text)
		} else {
			reason += "; it also"
		}
		reason += " has no digest; append @sha256:<digest>"
	}
	return reason
}

func clip(text string) string {
	const most = 100
	if len(text) <= most {
		return text
	}
	return text[:most] + "…"
}

func (p *plugin) allows(img image) bool {
	for i := range p.allowed {
		if p.allowed[i].covers(img) {
			return true
		}
	}
	return len(p.allowed) == 0
}

// list returns what is allowed, for a message.
func (p *plugin) list() string {
	const most = 8
	var texts []string
	for i := range p.allowed {
		if i == most {
			texts = append(texts, "…")
			break
		}
		texts = append(texts, p.allowed[i].text)
	}
	return strings.Join(texts, ", ")
}
