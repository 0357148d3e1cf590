package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
)

// message is a struct of package hostabi that crosses the boundary as JSON.
type message struct {
	Name   string
	Doc    string
	Fields []messageField
}

// messageField is one of its fields.
type messageField struct {
	Name string // in JSON
	Type string // in words of JSON
	Doc  string
}

// word is a value that a string field of a message may have.
type word struct{ Name, Value, Doc string }

// words reads the string constants of the declarations of a file.
func words(file *ast.File) []word {
	var all []word
	for _, d := range file.Decls {
		general, ok := d.(*ast.GenDecl)
		if !ok || general.Tok != token.CONST {
			continue
		}
		for _, s := range general.Specs {
			spec, ok := s.(*ast.ValueSpec)
			if !ok || len(spec.Names) != 1 || len(spec.Values) != 1 {
				continue
			}
			literal, ok := spec.Values[0].(*ast.BasicLit)
			if !ok || literal.Kind != token.STRING {
				continue
			}
			value, err := strconv.Unquote(literal.Value)
			if err != nil {
				continue
			}
			doc := sentence(spec.Comment)
			if doc == "" {
				doc = sentence(general.Doc)
			}
			all = append(all, word{spec.Names[0].Name, value, doc})
		}
	}
	return all
}

// messageFiles are where the messages are declared, and the order in which they
// are told.
func messageFiles() []string { return []string{"messages.go", "manifest.go"} }

// messages reads the declarations below dir, with the comments that are their
// documentation: a struct's own, and behind or above each field.
func messages(dir string) (all []message, values []word, err error) {
	for _, name := range messageFiles() {
		file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(dir, name), nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, err
		}
		values = append(values, words(file)...)
		for _, d := range file.Decls {
			general, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range general.Specs {
				spec, ok := s.(*ast.TypeSpec)
				if !ok {
					continue
				}
				if fields, ok := spec.Type.(*ast.StructType); ok {
					m, err := newMessage(spec.Name.Name, general.Doc, fields)
					if err != nil {
						return nil, nil, err
					}
					all = append(all, m)
				}
			}
		}
	}
	return all, values, nil
}

func newMessage(name string, doc *ast.CommentGroup, fields *ast.StructType) (message, error) {
	m := message{Name: name, Doc: sentence(doc)}
	for _, f := range fields.Fields.List {
		if f.Tag == nil || len(f.Names) != 1 {
			return m, fmt.Errorf("%s: a field without a name or a tag", name)
		}
		tag, err := strconv.Unquote(f.Tag.Value)
		if err != nil {
			return m, err
		}
		key, options, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
		text := sentence(f.Comment)
		if text == "" {
			text = sentence(f.Doc)
		}
		if strings.Contains(options, "omit") {
			text = strings.TrimSpace("Optional. " + text)
		}
		m.Fields = append(m.Fields, messageField{key, jsonType(f.Type), text})
	}
	return m, nil
}

// sentence is a comment on one line.
func sentence(doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	return strings.ReplaceAll(text, "|", `\|`)
}

// jsonType says in words of JSON what a Go type is written as.
func jsonType(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return jsonType(t.X)
	case *ast.ArrayType:
		return "list of " + jsonType(t.Elt)
	case *ast.MapType:
		return "map of " + jsonType(t.Value)
	case *ast.SelectorExpr:
		return "any JSON"
	case *ast.Ident:
		switch t.Name {
		case "string", "bool":
			return t.Name
		case "int", "int32", "int64", "uint32":
			return "integer"
		case "Point", "Operation", "FailurePolicy", "ConfigType", "LabelOperator":
			return "string"
		}
		return "[" + t.Name + "](#" + strings.ToLower(t.Name) + ")"
	}
	return "any"
}
