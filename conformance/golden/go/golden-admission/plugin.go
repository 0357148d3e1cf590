// Command golden-admission is the golden guest of the point admission: pods
// take tagged images from the registries that are allowed.
package main

import (
	"bytes"
	"errors"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
	"github.com/cleat-dev/cleat/pluginsdk/config"
)

func main() {}

func init() {
	g := &golden{
		checked: admission.NewPath("metadata.labels['golden.cleat.dev/checked']"),
		images: []imageList{
			newImageList("spec.initContainers"),
			newImageList("spec.containers"),
		},
	}
	pluginsdk.OnInit(g.start)
	admission.Register(admission.Plugin{Mutate: g.mutate, Validate: g.validate})
}

// golden is the configuration and the fields the policy looks at.
type golden struct {
	registries []string
	prefixes   [][]byte // of images that are allowed
	teamLabel  string
	team       *admission.Path // nil = no label is wanted
	checked    *admission.Path
	images     []imageList
}

// imageList is one of the lists of containers in a pod.
type imageList struct {
	field string
	path  *admission.Path
}

func newImageList(field string) imageList {
	return imageList{field, admission.NewPath(field + "[*].image")}
}

func (g *golden) start() error {
	c, err := config.Read()
	if err != nil {
		return err
	}
	g.registries, g.teamLabel = c.Strings("registries"), c.String("team_label")
	if len(g.registries) == 0 {
		return errors.New("registries: is empty; name at least one registry")
	}
	for _, r := range g.registries {
		g.prefixes = append(g.prefixes, []byte(r+"/"))
	}
	if g.teamLabel != "" {
		key := strings.NewReplacer(`\`, `\\`, `'`, `\'`).Replace(g.teamLabel)
		g.team, err = admission.RegisterPath("metadata.labels['" + key + "']")
	}
	return err
}

func (g *golden) mutate(r *admission.Request) {
	if r.Get(g.checked).IsNull() {
		r.SetString(g.checked, admission.Single, "true")
	}
}

func (g *golden) validate(r *admission.Request) {
	count := 0
	for _, l := range g.images {
		list := r.Get(l.path).List()
		for i := 0; ; i++ {
			v, ok := list.Next()
			if !ok {
				break
			}
			image, _ := v.Text()
			if !g.good(image) {
				r.Deny(l.field + "[" + strconv.Itoa(i) + "].image: " + g.wrong(string(image)))
				return
			}
			count++
		}
	}
	r.Audit("images", strconv.Itoa(count))
	if g.team != nil && r.Get(g.team).IsNull() {
		r.Warn(`metadata.labels: has no label "` + g.teamLabel + `"; add one`)
	}
}

// good is the way of every image that is allowed; it allocates nothing.
func (g *golden) good(image []byte) bool {
	allowed := false
	for _, p := range g.prefixes {
		allowed = allowed || bytes.HasPrefix(image, p)
	}
	name := image[bytes.LastIndexByte(image, '/')+1:]
	if !allowed || bytes.IndexByte(name, '@') >= 0 {
		return allowed
	}
	colon := bytes.LastIndexByte(name, ':')
	return colon >= 0 && string(name[colon+1:]) != "latest"
}

// wrong says what is wrong with an image that is not good.
func (g *golden) wrong(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	switch {
	case image == "":
		return "has no image; name one"
	case !g.allowed(image):
		return `"` + image + `" is not from an allowed registry; use one of ` + strings.Join(g.registries, ", ")
	case !strings.ContainsAny(name, ":@"):
		return `"` + image + `" has no tag; add one, such as :1.0`
	}
	return `"` + image + `" is tagged latest; name a version`
}

func (g *golden) allowed(image string) bool {
	for _, p := range g.prefixes {
		if strings.HasPrefix(image, string(p)) {
			return true
		}
	}
	return false
}
