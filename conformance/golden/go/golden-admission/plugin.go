// Command golden-admission is the golden guest of the point admission: pods
// take tagged images from the registries that are allowed.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/admission"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() {
	g := &golden{
		labels:  admission.NewPath("metadata.labels"),
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
	Registries []string `json:"registries"`
	TeamLabel  string   `json:"team_label"`

	labels, checked *admission.Path
	images          []imageList
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
	if err := plan.Config(g); err != nil {
		return err
	}
	if len(g.Registries) == 0 {
		return errors.New("registries: is empty; name at least one registry")
	}
	return nil
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
			if wrong := g.wrong(string(image)); wrong != "" {
				r.Deny(l.field + "[" + strconv.Itoa(i) + "].image: " + wrong)
				return
			}
			count++
		}
	}
	r.Audit("images", strconv.Itoa(count))
	if g.TeamLabel != "" && !g.labelled(r) {
		r.Warn(`metadata.labels: has no label "` + g.TeamLabel + `"; add one`)
	}
}

// wrong says what is wrong with an image, "" if nothing.
func (g *golden) wrong(image string) string {
	name := image[strings.LastIndexByte(image, '/')+1:]
	switch {
	case image == "":
		return "has no image; name one"
	case !g.allowed(image):
		return fmt.Sprintf(`"%s" is not from an allowed registry; use one of %s`, image, strings.Join(g.Registries, ", "))
	case !strings.ContainsAny(name, ":@"):
		return fmt.Sprintf(`"%s" has no tag; add one, such as :1.0`, image)
	case !strings.Contains(name, "@") && name[strings.LastIndexByte(name, ':')+1:] == "latest":
		return fmt.Sprintf(`"%s" is tagged latest; name a version`, image)
	}
	return ""
}

func (g *golden) allowed(image string) bool {
	for _, registry := range g.Registries {
		if rest, ok := strings.CutPrefix(image, registry); ok && strings.HasPrefix(rest, "/") {
			return true
		}
	}
	return false
}

// labelled reports whether the pod has the team's label.
func (g *golden) labelled(r *admission.Request) bool {
	text, ok := r.Get(g.labels).JSON()
	if !ok {
		return false
	}
	var labels map[string]any
	if err := json.Unmarshal(text, &labels); err != nil {
		r.Fail("metadata.labels: " + err.Error())
		return false
	}
	return labels[g.TeamLabel] != nil
}
