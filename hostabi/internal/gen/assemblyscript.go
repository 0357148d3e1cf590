package main

import (
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/hostabi"
)

func assemblyscriptTargets() []target {
	const sdk = "../pluginsdk/assemblyscript/"
	return []target{
		{sdk + "assembly/cleat/abi.ts", "assemblyscript_abi.tmpl"},
		{sdk + "tools/abi.mjs", "assemblyscript_tools.tmpl"},
	}
}

func assemblyscriptFunctions() template.FuncMap {
	return template.FuncMap{
		"asName": strings.ToUpper, "asImport": asImport, "asComment": asComment, "asText": asText,
	}
}

// asImport is the declaration of a host function, with the types that its
// parameters have for a guest.
func asImport(f hostabi.Function) string {
	var params []string
	for _, p := range f.Params {
		t := string(p.Type)
		switch p.Role {
		case hostabi.RoleIn, hostabi.RoleBuf:
			t = "usize"
		case hostabi.RoleLen, hostabi.RoleLimit:
			t = "u32"
		}
		params = append(params, p.Name+": "+t)
	}
	result := "void"
	if len(f.Results) > 0 {
		result = string(f.Results[0])
	}
	return f.Name + "(" + strings.Join(params, ", ") + "): " + result
}

// asComment documents a host function. Lines are up to 100 columns wide.
func asComment(f hostabi.Function) string {
	lines := asWrap(" * ", " * ", f.Doc)
	for _, p := range f.Params {
		if p.Role != hostabi.RoleLen && p.Role != hostabi.RoleLimit {
			lines = append(lines, asWrap(" * @param "+p.Name+" ", " *   ", p.Doc)...)
		}
	}
	result := f.Result
	if len(f.Errors) > 0 {
		names := make([]string, len(f.Errors))
		for i, e := range f.Errors {
			names[i] = e.Name()
		}
		result += ": " + strings.Join(names, ", ")
	}
	lines = append(lines, asWrap(" * @returns ", " *   ", result)...)
	return "/**\n" + strings.Join(append(lines, " * @since "+f.Since), "\n") + "\n */"
}

// asWrap breaks text into lines with the prefixes given.
func asWrap(first, next, text string) []string {
	const most = 100
	var lines []string
	line, empty := first, true
	for word := range strings.FieldsSeq(text) {
		switch {
		case empty:
			line, empty = line+word, false
		case len(line)+1+len(word) > most:
			lines = append(lines, line)
			line = next + word
		default:
			line += " " + word
		}
	}
	return append(lines, line)
}

// asText is text as a string literal, of AssemblyScript and of JavaScript.
func asText(text string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text) + `"`
}
