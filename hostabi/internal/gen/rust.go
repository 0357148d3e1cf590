package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/hostabi"
)

func rustTargets() []target {
	const sdk = "../pluginsdk/rust/src/"
	return []target{
		{sdk + "abi.rs", "rust_abi.tmpl"},
		{sdk + "abi/functions.rs", "rust_functions.tmpl"},
		{sdk + "abi/host.rs", "rust_host.tmpl"},
		{sdk + "messages.rs", "rust_messages.tmpl"},
	}
}

// rustFunctions are those of the Rust templates; dir is the hostabi directory.
func rustFunctions(dir string) template.FuncMap {
	return template.FuncMap{
		"rustName": strings.ToUpper, "rustVariant": rustVariant, "rustConstants": cConstants, "rustType": rustType,
		"rustDoc": rustDoc, "rustFunctionDoc": rustFunctionDoc, "rustImport": rustImport,
		"rustSignature": rustSignature, "rustMethod": rustMethod, "rustCall": rustCall, "rustForward": rustForward,
		"rustExport": rustExport, "rustMessages": func() ([]rustMessage, error) { return rustMessages(dir) },
	}
}

// rustColumns is how long a line may be, as rustfmt has it.
const rustColumns = 100

// rustType is the type of a number of the ABI that is in no table, by its
// name.
func rustType(name string) string {
	switch {
	case strings.HasPrefix(name, "TAG_"):
		return "u8"
	case strings.HasPrefix(name, "MAX_"):
		return "usize"
	}
	return "i32"
}

// rustVariant turns dry_run into DryRun.
func rustVariant(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		b.WriteString(strings.ToUpper(part[:1]) + part[1:])
	}
	return b.String()
}

// rustDoc makes text a doc comment.
func rustDoc(indent int, text string) string {
	return strings.Join(rustComment(indent, "/// ", "/// ", text), "\n")
}

func rustComment(indent int, first, next, text string) []string {
	// What stands between brackets in the text of the tables is no link.
	text = strings.NewReplacer("[", `\[`, "]", `\]`, "*", `\*`).Replace(text)
	margin := strings.Repeat(" ", indent)
	var lines []string
	line, words := margin+first, 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case words == 0:
			line += word
		case len(line)+1+len(word) > rustColumns:
			lines = append(lines, line)
			line = margin + next + word
		default:
			line += " " + word
		}
		words++
	}
	return append(lines, line)
}

// rustFunctionDoc documents a host function.
func rustFunctionDoc(f hostabi.Function) string {
	lines := rustComment(0, "/// ", "/// ", f.Doc)
	item := func(text string) { lines = append(lines, rustComment(0, "/// - ", "///   ", text)...) }
	lines = append(lines, "///")
	for _, p := range f.Params {
		if p.Role != hostabi.RoleLen && p.Role != hostabi.RoleLimit {
			item("`" + rustParam(p) + "`: " + p.Doc)
		}
	}
	item("result: " + f.Result)
	if len(f.Errors) > 0 {
		names := make([]string, len(f.Errors))
		for i, e := range f.Errors {
			names[i] = e.Name()
		}
		item("errors: " + strings.Join(names, ", "))
	}
	item("since " + f.Since)
	return strings.Join(lines, "\n")
}

// rustParam is the name of a parameter in Rust; an address is named for what it
// points to.
func rustParam(p hostabi.Param) string {
	switch {
	case p.Role == hostabi.RoleIn && p.Name == "ptr":
		return "text"
	case p.Role == hostabi.RoleIn:
		return strings.TrimSuffix(p.Name, "_ptr")
	}
	return p.Name
}

// rustImport is the declaration of the import itself.
func rustImport(f hostabi.Function) string {
	var params []string
	for _, p := range f.Params {
		t := string(p.Type)
		switch p.Role {
		case hostabi.RoleIn:
			t = "*const u8"
		case hostabi.RoleBuf:
			t = "*mut u8"
		case hostabi.RoleLen, hostabi.RoleLimit:
			t = "u32"
		}
		params = append(params, p.Name+": "+t)
	}
	return rustPrototype(8, "pub fn "+f.Name, params, rustResult(f), ";")
}

// rustSignature is the safe function: addresses and lengths become slices.
func rustSignature(f hostabi.Function) string {
	return rustPrototype(0, "pub fn "+f.Name, rustParams(f), rustResult(f), " {")
}

// rustMethod is the same function of what stands in for the host.
func rustMethod(f hostabi.Function) string {
	return rustPrototype(4, "fn "+f.Name, append([]string{"&mut self"}, rustParams(f)...), rustResult(f), " {")
}

func rustParams(f hostabi.Function) []string {
	var params []string
	for _, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber:
			params = append(params, rustParam(p)+": "+string(p.Type))
		case hostabi.RoleIn:
			params = append(params, rustParam(p)+": &[u8]")
		case hostabi.RoleBuf:
			params = append(params, rustParam(p)+": &mut [u8]")
		}
	}
	return params
}

// rustCall is how the safe function calls the import.
func rustCall(f hostabi.Function) string {
	var args []string
	for i, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber:
			args = append(args, rustParam(p))
		case hostabi.RoleIn:
			args = append(args, rustParam(p)+".as_ptr()")
		case hostabi.RoleBuf:
			args = append(args, rustParam(p)+".as_mut_ptr()")
		case hostabi.RoleLen, hostabi.RoleLimit:
			args = append(args, rustParam(f.Params[i-1])+".len() as u32")
		}
	}
	return rustArguments(8, "import::"+f.Name, args)
}

// rustForward is how it calls what stands in for the host.
func rustForward(f hostabi.Function) string {
	var args []string
	for _, p := range f.Params {
		if p.Role != hostabi.RoleLen && p.Role != hostabi.RoleLimit {
			args = append(args, rustParam(p))
		}
	}
	return "h." + f.Name + "(" + strings.Join(args, ", ") + ")"
}

// rustExport is the definition of an export whose body is the expression $body.
func rustExport(f hostabi.Function) string {
	var params, args []string
	for _, p := range f.Params {
		t := string(p.Type)
		if p.Type == hostabi.I64 {
			t = "u64" // a bit mask
		}
		params, args = append(params, p.Name+": "+t), append(args, p.Name)
	}
	return rustPrototype(8, `pub extern "C" fn `+f.Name, params, rustResult(f), " {") +
		fmt.Sprintf("\n            $body(%s)\n        }", strings.Join(args, ", "))
}

func rustResult(f hostabi.Function) string {
	if len(f.Results) == 0 {
		return ""
	}
	return " -> " + string(f.Results[0])
}

// rustPrototype joins a declaration: on one line, or with a line for each
// parameter.
func rustPrototype(indent int, name string, params []string, result, end string) string {
	line := name + "(" + strings.Join(params, ", ") + ")" + result + end
	if indent+len(line) <= rustColumns {
		return line
	}
	return rustLines(indent, name, params) + result + end
}

// rustArguments joins a call: on one line of at most 60 columns between its
// brackets, which is where rustfmt breaks it, or with a line for each argument.
func rustArguments(indent int, name string, args []string) string {
	const most = 60
	if list := strings.Join(args, ", "); len(list) <= most {
		return name + "(" + list + ")"
	}
	return rustLines(indent, name, args)
}

func rustLines(indent int, name string, items []string) string {
	margin := "\n" + strings.Repeat(" ", indent)
	var b strings.Builder
	b.WriteString(name + "(")
	for _, item := range items {
		b.WriteString(margin + "    " + item + ",")
	}
	return b.String() + margin + ")"
}
