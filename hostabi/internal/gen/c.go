package main

import (
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

func cTargets() []target {
	return []target{{"../pluginsdk/c/include/cleat/abi.h", "c_abi.tmpl"}}
}

func cFunctions() template.FuncMap {
	return template.FuncMap{
		"cName": strings.ToUpper, "cComment": cComment, "cResult": cResult,
		"cImport": cImport, "cExport": cExport, "cConstants": cConstants,
	}
}

// cColumns is how long a line of the header may be.
const cColumns = 100

// cConstant is a number of the ABI that is in no table.
type cConstant struct {
	Name  string
	Value int64
	Doc   string
}

// cConstants are those numbers, in groups with a title.
func cConstants() []struct {
	Title     string
	Constants []cConstant
} {
	return []struct {
		Title     string
		Constants []cConstant
	}{
		{"Results of an admission hook; negative is an error number.", []cConstant{
			{"ALLOW", int64(hostabi.VerdictAllow), ""},
			{"DENY", int64(hostabi.VerdictDeny), "deny was called with the message"},
		}},
		{"Results of a plan hook (datastore, cni, deployer); negative is an error number.", []cConstant{
			{"DECIDED", int64(hostabi.PlanDecided), "output_set was called with the plan"},
			{"NOT_MINE", int64(hostabi.PlanNotMine), "the input is for another plugin"},
		}},
		{"Levels of log.", []cConstant{
			{"LOG_DEBUG", int64(hostabi.LogDebug), ""},
			{"LOG_INFO", int64(hostabi.LogInfo), ""},
			{"LOG_WARN", int64(hostabi.LogWarn), ""},
			{"LOG_ERROR", int64(hostabi.LogError), ""},
		}},
		{"Which object object_json returns.", []cConstant{
			{"OBJECT_NEW", int64(hostabi.ObjectNew), "the object of the request"},
			{"OBJECT_OLD", int64(hostabi.ObjectOld), "the object as stored, on UPDATE and DELETE"},
		}},
		{"Tags of encoded values. Numbers are little-endian.", []cConstant{
			{"TAG_NULL", int64(wire.TagNull), "null or absent"},
			{"TAG_FALSE", int64(wire.TagFalse), ""},
			{"TAG_TRUE", int64(wire.TagTrue), ""},
			{"TAG_INT", int64(wire.TagInt), "int64"},
			{"TAG_FLOAT", int64(wire.TagFloat), "IEEE 754 binary64"},
			{"TAG_STRING", int64(wire.TagString), "u32 length in bytes, UTF-8"},
			{"TAG_LIST", int64(wire.TagList), "u32 count, then that many values"},
			{"TAG_JSON", int64(wire.TagJSON), "u32 length in bytes, JSON text; an object, mostly"},
		}},
		{"Depths.", []cConstant{
			{"MAX_LIST_DEPTH", wire.MaxDepth, "of lists in one encoded value"},
			{"MAX_JSON_DEPTH", hostabi.MaxJSONDepth, "of arrays and objects in JSON that crosses the boundary"},
		}},
	}
}

// cImport is the declaration of a host function. Its name has a prefix of its
// own, because some would otherwise be those of exports.
func cImport(f hostabi.Function) string {
	return cPrototype(cResult(f)+" cleat_host_"+f.Name, cParams(f, "int64_t"))
}

// cExport is the declaration of an export. Its 64-bit parameter is a bit mask.
func cExport(f hostabi.Function) string {
	return cPrototype(cResult(f)+" "+f.Name, cParams(f, "uint64_t"))
}

// cParams gives every parameter the type its role has in C; wide is what a
// 64-bit number is.
func cParams(f hostabi.Function, wide string) []string {
	var params []string
	for _, p := range f.Params {
		switch {
		case p.Role == hostabi.RoleIn:
			params = append(params, "const void *"+p.Name)
		case p.Role == hostabi.RoleBuf:
			params = append(params, "void *"+p.Name)
		case p.Role == hostabi.RoleLen, p.Role == hostabi.RoleLimit:
			params = append(params, "uint32_t "+p.Name)
		case p.Type == hostabi.I64:
			params = append(params, wide+" "+p.Name)
		default:
			params = append(params, "int32_t "+p.Name)
		}
	}
	return params
}

// cPrototype joins a declaration, over several lines when it is long.
func cPrototype(name string, params []string) string {
	if len(params) == 0 {
		return name + "(void)"
	}
	var b strings.Builder
	line := name + "("
	for i, p := range params {
		if i < len(params)-1 {
			p += ","
		}
		switch {
		case i == 0:
			line += p
		case len(line)+1+len(p)+len(");") > cColumns:
			b.WriteString(line + "\n")
			line = "    " + p
		default:
			line += " " + p
		}
	}
	return b.String() + line + ")"
}

func cResult(f hostabi.Function) string {
	switch {
	case len(f.Results) == 0:
		return "void"
	case f.Results[0] == hostabi.I64:
		return "int64_t"
	}
	return "int32_t"
}

// cComment makes text a comment. With an indent it is
// an item of a list, whose lines after the first are indented once more.
func cComment(indent int, text string) string {
	lines, line := []string{}, "//"+strings.Repeat(" ", indent)
	for word := range strings.FieldsSeq(text) {
		if len(line)+1+len(word) > cColumns {
			lines = append(lines, line)
			line = "//" + strings.Repeat(" ", 2*indent)
		}
		line += " " + word
	}
	return strings.Join(append(lines, line), "\n")
}
