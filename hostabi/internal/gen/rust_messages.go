package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
)

// rustMessage is a message of a plan point, or, when it has no fields, a group
// of constants.
type rustMessage struct {
	Name      string
	Doc       string
	Fields    []rustField
	Constants []rustField
}

type rustField struct {
	Name, Type, Doc string
	Value           string // of a constant, as a literal
	OmitEmpty       bool
}

// rustMessages reads the messages declared in dir, the hostabi directory. They
// are parsed: reflection does not know comments.
func rustMessages(dir string) ([]rustMessage, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, filepath.Join(dir, "messages.go"), nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	var messages []rustMessage
	for _, d := range file.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok == token.IMPORT {
			continue
		}
		m := rustMessage{Doc: g.Doc.Text()}
		for _, spec := range g.Specs {
			if err := m.add(spec); err != nil {
				return nil, fmt.Errorf("%s: %w", files.Position(spec.Pos()), err)
			}
		}
		messages = append(messages, m)
	}
	rustWords(messages)
	return messages, nil
}

func (m *rustMessage) add(spec ast.Spec) error {
	switch spec := spec.(type) {
	case *ast.ValueSpec:
		value, ok := spec.Values[0].(*ast.BasicLit)
		if !ok || value.Kind != token.STRING {
			return errors.New("a constant of a message is text")
		}
		m.Constants = append(m.Constants, rustField{Name: spec.Names[0].Name, Value: value.Value, Doc: spec.Comment.Text()})
	case *ast.TypeSpec:
		body, ok := spec.Type.(*ast.StructType)
		if !ok {
			return errors.New("a message is a struct")
		}
		m.Name = spec.Name.Name
		for _, f := range body.Fields.List {
			t, err := rustFieldType(f.Type)
			if err != nil {
				return err
			}
			tag := reflect.StructTag(strings.Trim(f.Tag.Value, "`")).Get("json")
			name, option, _ := strings.Cut(tag, ",")
			m.Fields = append(m.Fields, rustField{Name: name, Type: t, OmitEmpty: option == "omitempty", Doc: f.Doc.Text() + f.Comment.Text()})
		}
	}
	return nil
}

func rustFieldType(e ast.Expr) (string, error) {
	switch e := e.(type) {
	case *ast.Ident:
		switch e.Name {
		case "string":
			return "String", nil
		case "int", "int64":
			return "i64", nil
		case "bool":
			return "bool", nil
		}
		return e.Name, nil
	case *ast.SelectorExpr: // json.RawMessage, the only one
		return "Text", nil
	case *ast.StarExpr:
		t, err := rustFieldType(e.X)
		return "Option<" + t + ">", err
	case *ast.ArrayType:
		t, err := rustFieldType(e.Elt)
		return "Vec<" + t + ">", err
	case *ast.MapType:
		t, err := rustFieldType(e.Value)
		return "BTreeMap<String, " + t + ">", err
	}
	return "", fmt.Errorf("a field of type %T", e)
}

// rustWords gives constants their names in Rust, and comments the names that
// constants and fields have there.
func rustWords(messages []rustMessage) {
	word := regexp.MustCompile(`\w+`)
	group := regexp.MustCompile(`a (\w+) constant`)
	constants := map[string]string{}
	for i := range messages {
		for j := range messages[i].Constants {
			c := &messages[i].Constants[j]
			constants[c.Name] = rustScream(c.Name)
			c.Name = constants[c.Name]
		}
	}
	for i := range messages {
		m := &messages[i]
		docs := []*string{&m.Doc}
		for j := range m.Fields {
			docs = append(docs, &m.Fields[j].Doc)
		}
		for j := range m.Constants {
			docs = append(docs, &m.Constants[j].Doc)
		}
		for _, doc := range docs {
			text := group.ReplaceAllStringFunc(*doc, func(s string) string {
				return "a constant `" + rustScream(group.FindStringSubmatch(s)[1]) + "_…`"
			})
			*doc = word.ReplaceAllStringFunc(text, func(s string) string {
				if name, ok := constants[s]; ok {
					return "`" + name + "`"
				}
				// A field in a sentence about its struct.
				name := strings.ToLower(rustScream(s))
				isField := slices.ContainsFunc(m.Fields, func(f rustField) bool { return f.Name == name })
				if s != name && isField && !strings.HasPrefix(text, s) {
					return "`" + name + "`"
				}
				return s
			})
		}
	}
}

// rustScream turns FlannelHostGW into FLANNEL_HOST_GW.
func rustScream(name string) string {
	name = strings.NewReplacer("NFTables", "Nftables", "IPTables", "Iptables").Replace(name) // one word each
	lowerUpper := regexp.MustCompile(`([a-z])([A-Z])`)
	upperWord := regexp.MustCompile(`([A-Z])([A-Z][a-z])`)
	return strings.ToUpper(upperWord.ReplaceAllString(lowerUpper.ReplaceAllString(name, "${1}_$2"), "${1}_$2"))
}
