package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// maxListDepth is how deep lists may hold lists.
const maxListDepth = 4

// head is the part of an object the plugin looks at.
type head struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
	Items *[]json.RawMessage `json:"items"`
}

type object struct {
	head
	at  string // where it stands in the file
	raw json.RawMessage
}

// collector gathers the objects of a file.
type collector struct {
	objects  []object
	warnings []string
}

// document adds the objects of document n, counted from 1.
func (c *collector) document(n int, raw json.RawMessage) error {
	return c.add(fmt.Sprintf("document %d", n), raw, 0)
}

func (c *collector) add(at string, raw json.RawMessage, depth int) error {
	if raw = bytes.TrimSpace(raw); len(raw) == 0 || string(raw) == "null" {
		return nil
	}
	if raw[0] != '{' {
		return fmt.Errorf("%s: not an object; a manifest has apiVersion, kind and metadata", at)
	}
	o := object{at: at, raw: raw}
	if err := json.Unmarshal(raw, &o.head); err != nil {
		var wrong *json.UnmarshalTypeError
		if errors.As(err, &wrong) {
			return fmt.Errorf("%s: %s has JSON type %s, want %s", at, wrong.Field, wrong.Value, wanted(wrong))
		}
		return fmt.Errorf("%s: %w", at, err)
	}
	switch {
	case o.APIVersion == "":
		return fmt.Errorf("%s: apiVersion is missing", at)
	case o.Kind == "":
		return fmt.Errorf("%s: kind is missing", at)
	case strings.HasSuffix(o.Kind, "List") && o.Items != nil:
		return c.list(o, depth)
	case o.Metadata.Name == "" && o.Metadata.GenerateName != "":
		return fmt.Errorf("%s: %s has metadata.generateName, so each pass would make another; give it metadata.name", at, o.Kind)
	case o.Metadata.Name == "":
		return fmt.Errorf("%s: metadata.name of %s is missing", at, o.Kind)
	}
	c.objects = append(c.objects, o)
	return nil
}

func (c *collector) list(o object, depth int) error {
	if depth == maxListDepth {
		return fmt.Errorf("%s: lists nest deeper than %d", o.at, maxListDepth)
	}
	for i, item := range *o.Items {
		if err := c.add(fmt.Sprintf("%s, items[%d]", o.at, i), item, depth+1); err != nil {
			return err
		}
	}
	return nil
}

// result puts first what other objects need to exist, and otherwise keeps the
// order of the file.
func (c *collector) result() hostabi.DeployResult {
	seen := map[string]string{}
	for _, o := range c.objects {
		group, _, _ := strings.Cut(o.APIVersion, "/")
		key := strings.Join([]string{group, o.Kind, o.Metadata.Namespace, o.Metadata.Name}, "\n")
		if first, again := seen[key]; again {
			c.warnings = append(c.warnings, fmt.Sprintf("%s: %s %s is in %s already; the later one wins", o.at, o.Kind, o.Metadata.Name, first))
		}
		seen[key] = o.at
	}
	slices.SortStableFunc(c.objects, func(a, b object) int { return rank(a.head) - rank(b.head) })
	result := hostabi.DeployResult{Objects: []json.RawMessage{}, Warnings: c.warnings}
	for _, o := range c.objects {
		result.Objects = append(result.Objects, o.raw)
	}
	return result
}

func rank(h head) int {
	switch {
	case h.Kind == "Namespace" && h.APIVersion == "v1":
		return 0
	case h.Kind == "CustomResourceDefinition":
		return 1
	}
	return 2
}

// wanted says what a field of head should have been.
func wanted(wrong *json.UnmarshalTypeError) string {
	switch wrong.Type.Kind() {
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		return "an object"
	}
	return "text; write it in quotes"
}
