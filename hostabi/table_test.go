package hostabi_test

import (
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

func TestTableIsWellFormed(t *testing.T) {
	seen := map[string]bool{}
	for _, f := range append(hostabi.Imports(), hostabi.Exports()...) {
		id := f.Module + "." + f.Name
		if seen[id] || seen["."+f.Name] {
			t.Errorf("%s is there twice", id)
		}
		seen[id] = true
		if f.Doc == "" || f.Since == "" || len(f.Results) > 1 {
			t.Errorf("%s: doc %q, since %q, results %v", id, f.Doc, f.Since, f.Results)
		}
		if f.Module != "" && !slices.Contains(hostabi.Capabilities(), f.Module) {
			t.Errorf("%s: the module is no capability", id)
		}
		for i, p := range f.Params {
			var follows hostabi.Role
			switch p.Role {
			case hostabi.RoleIn:
				follows = hostabi.RoleLen
			case hostabi.RoleBuf:
				follows = hostabi.RoleLimit
			default:
				continue
			}
			if i+1 == len(f.Params) || f.Params[i+1].Role != follows {
				t.Errorf("%s: %s is not followed by its %s", id, p.Name, follows)
			}
		}
	}
	for _, m := range hostabi.Capabilities() {
		if !slices.ContainsFunc(hostabi.Imports(), func(f hostabi.Function) bool { return f.Module == m }) {
			t.Errorf("capability %s has no function", m)
		}
	}
}

func TestErrnos(t *testing.T) {
	for i, e := range hostabi.Errnos() {
		if int(e) != -1-i || e.Name() == "" || !strings.Contains(e.Error(), e.Name()) {
			t.Errorf("errno %d is %q: %s", int(e), e.Name(), e)
		}
	}
	if unknown := hostabi.Errno(-99); unknown.Name() != "" || unknown.Error() == "" {
		t.Error("an unknown errno has a name or no text")
	}
}

// TestV1OnlyGrows compares the tables with api/v1.txt, which is written by
// hand. A line that is there must stay true; what is new gets a line.
func TestV1OnlyGrows(t *testing.T) {
	text, err := os.ReadFile("api/v1.txt")
	if err != nil {
		t.Fatal(err)
	}
	frozen := strings.Split(strings.TrimSpace(string(text)), "\n")
	now := apiLines()
	for _, line := range frozen {
		if !slices.Contains(now, line) {
			t.Errorf("gone or changed since it was frozen: %s", line)
		}
	}
	for _, line := range now {
		if !slices.Contains(frozen, line) {
			t.Errorf("new; add this line to api/v1.txt if it is meant: %s", line)
		}
	}
}

func apiLines() []string {
	lines := []string{"section " + hostabi.ManifestSection}
	for _, p := range hostabi.Points() {
		lines = append(lines, "point "+string(p))
	}
	for _, f := range hostabi.Exports() {
		lines = append(lines, fmt.Sprintf("export %s%v %v since %s", f.Name, f.ParamTypes(), f.Results, f.Since))
	}
	for _, f := range hostabi.Imports() {
		lines = append(lines, fmt.Sprintf("import %s.%s%v %v since %s", f.Module, f.Name, f.ParamTypes(), f.Results, f.Since))
	}
	for _, f := range hostabi.ForeignImports() {
		lines = append(lines, fmt.Sprintf("foreign %s.%s%v %v", f.Module, f.Name, f.Params, f.Results))
	}
	for _, e := range hostabi.Errnos() {
		lines = append(lines, fmt.Sprintf("errno %s %d", e.Name(), int32(e)))
	}
	for i, name := range hostabi.RequestFieldNames() {
		lines = append(lines, fmt.Sprintf("request_field %d %s", i, name))
	}
	for _, o := range hostabi.Operations() {
		lines = append(lines, "operation "+string(o))
	}
	for i, tag := range []wire.Tag{wire.TagNull, wire.TagFalse, wire.TagTrue, wire.TagInt, wire.TagFloat, wire.TagString, wire.TagList, wire.TagJSON} {
		lines = append(lines, fmt.Sprintf("tag %d %s", tag, []string{"null", "false", "true", "int64", "float64", "string", "list", "json"}[i]))
	}
	for _, message := range []any{
		hostabi.DatastoreRequest{}, hostabi.DatastorePlan{}, hostabi.CNIRequest{}, hostabi.CNIPlan{},
		hostabi.DeployRequest{}, hostabi.DeployResult{}, hostabi.HelmRequest{}, hostabi.HelmResult{},
		hostabi.KustomizeRequest{}, hostabi.Manifest{},
	} {
		typ := reflect.TypeOf(message)
		lines = append(lines, fieldLines("message "+typ.Name(), typ)...)
	}
	return lines
}

// fieldLines lists the JSON fields of a message, as deep as they go.
func fieldLines(at string, typ reflect.Type) []string {
	var lines []string
	for f := range typ.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		element, shape := f.Type, ""
		for {
			switch {
			case element == reflect.TypeFor[json.RawMessage]():
			case element.Kind() == reflect.Pointer:
				element = element.Elem()
				continue
			case element.Kind() == reflect.Slice:
				element, shape = element.Elem(), shape+"[]"
				continue
			case element.Kind() == reflect.Map:
				element, shape = element.Elem(), shape+"{}"
				continue
			}
			break
		}
		if element.Kind() == reflect.Struct {
			lines = append(lines, fieldLines(at+"."+name+shape, element)...)
			continue
		}
		kind := element.Kind().String()
		if element.Kind() == reflect.Slice {
			kind = "json"
		}
		lines = append(lines, at+"."+name+shape+" "+kind)
	}
	return lines
}
