package render

import (
	"fmt"
	"maps"
	"slices"
	"text/template"
	"time"

	"github.com/Masterminds/sprig/v3"
)

// unstable are the template functions that answer differently each time.
func unstable() []string {
	return []string{
		"ago", "now",
		"randAlpha", "randAlphaNum", "randAscii", "randBytes", "randInt", "randNumeric", "shuffle", "uuidv4",
		"bcrypt", "encryptAES", "htpasswd",
		"genCA", "genCAWithKey", "genPrivateKey", "genSelfSignedCert", "genSelfSignedCertWithKey", "genSignedCert", "genSignedCertWithKey",
	}
}

// templateFunctions replace those of Helm's template functions that would give
// another result the next time.
func templateFunctions() template.FuncMap {
	own := template.FuncMap{"keys": sortedKeys, "values": sortedValues}
	for _, name := range unstable() {
		own[name] = func(...any) (string, error) {
			return "", fmt.Errorf("%s gives another result at every rendering, so the objects would change at every restart: set the value that the chart offers instead", name)
		}
	}
	all := sprig.TxtFuncMap()
	if format, ok := all["date"].(func(string, any) string); ok {
		own["date"] = func(layout string, at any) (string, error) { return format(layout, at), isDate("date", at) }
	}
	if format, ok := all["htmlDate"].(func(any) string); ok {
		own["htmlDate"] = func(at any) (string, error) { return format(at), isDate("htmlDate", at) }
	}
	if format, ok := all["dateInZone"].(func(string, any, string) string); ok {
		for _, name := range []string{"dateInZone", "date_in_zone"} {
			own[name] = func(layout string, at any, zone string) (string, error) {
				return format(layout, at, zone), isDate(name, at)
			}
		}
	}
	if format, ok := all["htmlDateInZone"].(func(any, string) string); ok {
		own["htmlDateInZone"] = func(at any, zone string) (string, error) { return format(at, zone), isDate("htmlDateInZone", at) }
	}
	return own
}

// isDate refuses what the date functions would take for the present time.
func isDate(function string, at any) error {
	switch at.(type) {
	case time.Time, *time.Time, int, int32, int64:
		return nil
	}
	return fmt.Errorf("%s is given a %T, which stands for the time of rendering: give it a date", function, at)
}

// sortedKeys are the keys of maps, in order in each.
func sortedKeys(dicts ...map[string]any) []string {
	out := []string{}
	for _, d := range dicts {
		out = append(out, slices.Sorted(maps.Keys(d))...)
	}
	return out
}

// sortedValues are the values of a map, in the order of its keys.
func sortedValues(dict map[string]any) []any {
	out := []any{}
	for _, key := range slices.Sorted(maps.Keys(dict)) {
		out = append(out, dict[key])
	}
	return out
}
