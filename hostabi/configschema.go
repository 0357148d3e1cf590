package hostabi

import (
	"errors"
	"fmt"
	"strings"
)

// MaxConfigBytes bounds a plugin's configuration as canonical JSON.
const MaxConfigBytes = 64 << 10

func (p *problems) checkSchema(schema map[string]ConfigField) {
	if len(schema) > maxListed {
		p.add("config_schema", "%d keys, the most is %d", len(schema), maxListed)
		return
	}
	for _, key := range sortedKeys(schema) {
		f, at := schema[key], "config_schema."+clip(key)
		if key == "" || len(key) > 63 || !all(key, func(c byte) bool { return isLower(c) || isDigit(c) || c == '_' }) {
			p.add(at, "a key is lower_snake_case of at most 63 bytes")
		}
		p.checkText(at+".doc", f.Doc, 1000)
		switch f.Type {
		case ConfigString, ConfigBool, ConfigInteger, ConfigStrings, ConfigMap:
		default:
			p.add(at+".type", "%q is none of string, bool, integer, strings, map", clip(string(f.Type)))
			continue
		}
		if len(f.Default) == 0 {
			continue
		}
		v, err := ParseJSON(f.Default)
		if err == nil {
			err = f.Type.check(v)
		}
		if err != nil {
			p.add(at+".default", "%w", err)
		}
	}
}

// ResolveConfig checks a plugin's configuration against the manifest's schema,
// fills in defaults and returns it as canonical JSON, which is what config_get
// hands out. Values have the shape of decoded JSON or TOML: string, bool, int64,
// []any, []string, map[string]any, map[string]string. An error names every
// key that is wrong.
func (m Manifest) ResolveConfig(given map[string]any) ([]byte, error) {
	resolved := make(map[string]any, len(m.ConfigSchema))
	var errs []error
	for _, key := range sortedKeys(given) {
		f, known := m.ConfigSchema[key]
		if !known {
			errs = append(errs, fmt.Errorf("config key %q is unknown to plugin %s; it has %s", clip(key), m.Name, m.configKeys()))
			continue
		}
		if err := f.Type.check(given[key]); err != nil {
			errs = append(errs, fmt.Errorf("config key %q of plugin %s: %w", key, m.Name, err))
			continue
		}
		resolved[key] = given[key]
	}
	for key, f := range m.ConfigSchema {
		if _, ok := resolved[key]; ok || len(f.Default) == 0 {
			continue
		}
		v, err := ParseJSON(f.Default)
		if err != nil {
			errs = append(errs, fmt.Errorf("config key %q of plugin %s: default: %w", key, m.Name, err))
			continue
		}
		resolved[key] = v
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	text, err := AppendJSON(nil, resolved)
	if err != nil {
		return nil, fmt.Errorf("config of plugin %s: %w", m.Name, err)
	}
	if len(text) > MaxConfigBytes {
		return nil, fmt.Errorf("config of plugin %s: %d bytes, the most is %d", m.Name, len(text), MaxConfigBytes)
	}
	return text, nil
}

func (m Manifest) configKeys() string {
	if len(m.ConfigSchema) == 0 {
		return "none"
	}
	return strings.Join(sortedKeys(m.ConfigSchema), ", ")
}

// check reports whether v is of the type.
func (t ConfigType) check(v any) error {
	ok := false
	switch t {
	case ConfigString:
		_, ok = v.(string)
	case ConfigBool:
		_, ok = v.(bool)
	case ConfigInteger:
		switch v.(type) {
		case int64, int:
			ok = true
		}
	case ConfigStrings:
		ok = isStrings(v)
	case ConfigMap:
		ok = isStringMap(v)
	}
	if !ok {
		// The value itself may be a secret.
		return fmt.Errorf("want type %s, got a value of Go type %T", t, v)
	}
	return nil
}

func isStrings(v any) bool {
	list, ok := v.([]any)
	if !ok {
		_, ok = v.([]string)
		return ok
	}
	for _, e := range list {
		if _, ok := e.(string); !ok {
			return false
		}
	}
	return true
}

func isStringMap(v any) bool {
	m, ok := v.(map[string]any)
	if !ok {
		_, ok = v.(map[string]string)
		return ok
	}
	for _, e := range m {
		if _, ok := e.(string); !ok {
			return false
		}
	}
	return true
}
