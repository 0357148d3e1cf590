package crictl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"
	"time"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/duration"
	"sigs.k8s.io/yaml"
)

// Formats of --output.
const (
	formatTable    = "table"
	formatJSON     = "json"
	formatYAML     = "yaml"
	formatTemplate = "go-template"
)

const shortID = 13 // characters of an ID in a table

// toJSON encodes a CRI message as crictl does: every field, names in camel case.
func toJSON(m proto.Message) (json.RawMessage, error) {
	raw, err := protojson.MarshalOptions{EmitUnpopulated: true}.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return raw, nil
}

// messages encodes a list under one key, as the list responses of the CRI are.
func messages[M proto.Message](key string, list []M) (map[string]any, error) {
	out := make([]json.RawMessage, 0, len(list))
	for _, m := range list {
		raw, err := toJSON(m)
		if err != nil {
			return nil, err
		}
		out = append(out, raw)
	}
	return map[string]any{key: out}, nil
}

// print writes a value in a format other than table.
func (a *app) print(format, tmpl string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	switch format {
	case formatJSON:
		var b bytes.Buffer
		if err := json.Indent(&b, raw, "", "  "); err != nil {
			return fmt.Errorf("encode output: %w", err)
		}
		b.WriteByte('\n')
		_, err = b.WriteTo(a.stdio.Out)
		return err
	case formatYAML:
		text, err := yaml.JSONToYAML(raw)
		if err != nil {
			return fmt.Errorf("encode output: %w", err)
		}
		_, err = a.stdio.Out.Write(text)
		return err
	case formatTemplate:
		return a.printTemplate(tmpl, raw)
	}
	return fmt.Errorf("--output %q: want %s, %s or %s", format, formatJSON, formatYAML, formatTemplate)
}

func (a *app) printTemplate(text string, raw []byte) error {
	if text == "" {
		return fmt.Errorf("--output %s: --template is missing", formatTemplate)
	}
	t, err := template.New("output").Parse(text)
	if err != nil {
		return fmt.Errorf("--template: %w", err)
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.UseNumber() // a PID is 1234567 and not 1.234567e+06
	if err := decoder.Decode(&value); err != nil {
		return fmt.Errorf("decode for --template: %w", err)
	}
	if err := t.Execute(a.stdio.Out, value); err != nil {
		return fmt.Errorf("--template: %w", err)
	}
	_, err = fmt.Fprintln(a.stdio.Out)
	return err
}

// table writes rows under a header.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 10, 1, 3, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush() // reports what the lines above ran into
}

// cut shortens an ID for a table and drops its digest algorithm.
func cut(id string, whole bool) string {
	if whole {
		return id
	}
	_, hex, found := strings.Cut(id, ":")
	if !found {
		hex = id
	}
	if len(hex) > shortID {
		return hex[:shortID]
	}
	return hex
}

// ago says how long ago a time in nanoseconds since 1970 was.
func ago(nanoseconds int64, now time.Time) string {
	if nanoseconds == 0 {
		return "-"
	}
	return duration.HumanDuration(now.Sub(time.Unix(0, nanoseconds))) + " ago"
}

// size writes a number of bytes with three digits and a decimal unit.
func size(n uint64) string {
	units := []string{"B", "kB", "MB", "GB", "TB", "PB", "EB"}
	f, i := float64(n), 0
	for f >= 999.5 && i < len(units)-1 {
		f /= 1000
		i++
	}
	return fmt.Sprintf("%.3g%s", f, units[i])
}
