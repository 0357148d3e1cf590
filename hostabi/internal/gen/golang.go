package main

import (
	"fmt"
	"strings"
	"text/template"

	"github.com/cleat-dev/cleat/hostabi"
)

func goTargets() []target {
	const sdk = "../pluginsdk/internal/abi/"
	return []target{
		{sdk + "znames.go", "go_names.tmpl"},
		{sdk + "zabi_wasm.go", "go_wasm.tmpl"},
		{sdk + "zabi_native.go", "go_native.tmpl"},
	}
}

func goFunctions() template.FuncMap {
	return template.FuncMap{
		"goName": goName, "goSignature": goSignature, "goRaw": goRaw, "goRawCall": goRawCall, "goForward": goForward,
	}
}

// goName turns object_json into ObjectJSON.
func goName(name string) string {
	var b strings.Builder
	for part := range strings.SplitSeq(name, "_") {
		switch part {
		case "json", "yaml", "id", "uid", "ptr", "abi", "cni", "kv":
			b.WriteString(strings.ToUpper(part))
		default:
			b.WriteString(strings.ToUpper(part[:1]) + part[1:])
		}
	}
	return b.String()
}

// goParam is the name of a parameter in Go; an address is named for what it
// points to.
func goParam(p hostabi.Param) string {
	switch {
	case p.Role == hostabi.RoleIn && p.Name == "ptr":
		return "text"
	case p.Role == hostabi.RoleIn:
		return strings.TrimSuffix(p.Name, "_ptr")
	}
	name := goName(p.Name)
	return strings.ToLower(name[:1]) + name[1:]
}

// goSignature is the signature of the Go function: addresses and lengths
// become strings and slices.
func goSignature(f hostabi.Function) string {
	var params []string
	for _, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber:
			params = append(params, goParam(p)+" "+goNumber(p.Type))
		case hostabi.RoleIn:
			params = append(params, goParam(p)+" string")
		case hostabi.RoleBuf:
			params = append(params, goParam(p)+" []byte")
		}
	}
	return "(" + strings.Join(params, ", ") + ") " + goResult(f)
}

// goResult is the result type of a host function, which has exactly one.
func goResult(f hostabi.Function) string { return goNumber(f.Results[0]) }

// goRaw is the signature of the import itself.
func goRaw(f hostabi.Function) string {
	var params []string
	for _, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber:
			params = append(params, goParam(p)+" "+goNumber(p.Type))
		case hostabi.RoleIn, hostabi.RoleBuf:
			params = append(params, goParam(p)+" unsafe.Pointer")
		case hostabi.RoleLen, hostabi.RoleLimit:
			params = append(params, goParam(p)+" int32")
		}
	}
	return "(" + strings.Join(params, ", ") + ") " + goResult(f)
}

// goRawCall is the argument list with which the Go function calls the import.
func goRawCall(f hostabi.Function) string {
	var args []string
	for i, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber:
			args = append(args, goParam(p))
		case hostabi.RoleIn:
			args = append(args, fmt.Sprintf("unsafe.Pointer(unsafe.StringData(%s))", goParam(p)))
		case hostabi.RoleBuf:
			args = append(args, fmt.Sprintf("unsafe.Pointer(unsafe.SliceData(%s))", goParam(p)))
		case hostabi.RoleLen, hostabi.RoleLimit:
			args = append(args, fmt.Sprintf("int32(len(%s))", goParam(f.Params[i-1])))
		}
	}
	return "(" + strings.Join(args, ", ") + ")"
}

// goForward is the argument list with which the native function calls the fake
// host.
func goForward(f hostabi.Function) string {
	var args []string
	for _, p := range f.Params {
		switch p.Role {
		case hostabi.RoleNumber, hostabi.RoleIn, hostabi.RoleBuf:
			args = append(args, goParam(p))
		}
	}
	return "(" + strings.Join(args, ", ") + ")"
}

func goNumber(t hostabi.Type) string {
	if t == hostabi.I64 {
		return "int64"
	}
	return "int32"
}
