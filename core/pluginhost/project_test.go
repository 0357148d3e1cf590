package pluginhost

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
	"github.com/google/go-cmp/cmp"
)

// TestProjection compares what object_get encodes with the values themselves.
func TestProjection(t *testing.T) {
	object := map[string]any{
		"metadata": map[string]any{"labels": map[string]any{"a.b/c": "x"}},
		"spec": map[string]any{
			"replicas": int64(3), "ratio": 0.5, "on": true, "off": false, "null": nil,
			"containers": []any{
				map[string]any{"image": "a", "ports": []any{map[string]any{"p": int64(1)}, map[string]any{"p": int64(2)}}},
				map[string]any{"ports": []any{}},
				"not a map",
				map[string]any{"image": "d", "ports": []any{map[string]any{"q": int64(9)}}},
			},
		},
	}
	tests := map[string]any{
		"spec.replicas":                 int64(3),
		"spec.ratio":                    0.5,
		"spec.on":                       true,
		"spec.off":                      false,
		"spec.null":                     nil,
		"spec.missing.further":          nil,
		"spec.replicas.under":           nil,
		"metadata.labels['a.b/c']":      "x",
		"metadata.labels":               map[string]any{"a.b/c": "x"},
		"spec.containers[*].image":      []any{"a", nil, nil, "d"},
		"spec.containers[*].ports[*].p": []any{int64(1), int64(2), nil},
		"spec.missing[*].image":         []any{},
		"spec.replicas[*]":              []any{},
		"spec.containers[*].ports":      []any{[]any{map[string]any{"p": int64(1)}, map[string]any{"p": int64(2)}}, []any{}, nil, []any{map[string]any{"q": int64(9)}}},
	}
	for _, text := range slices.Sorted(maps.Keys(tests)) {
		path, err := hostabi.ParseFieldPath(text)
		if err != nil {
			t.Fatal(err)
		}
		encoded, err := newProjection(path, []hostabi.FieldPath{path}, nil).appendValue([]byte("head"), object)
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := hostabi.DecodeValue(encoded[4:])
		if err != nil {
			t.Errorf("%s: decode: %v", text, err)
		}
		if diff := cmp.Diff(tests[text], got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
	big := map[string]any{"l": []any{strings.Repeat("x", hostabi.MaxValueBytes/2), strings.Repeat("x", hostabi.MaxValueBytes/2)}}
	path, _ := hostabi.ParseFieldPath("l[*]")
	if _, err := newProjection(path, nil, nil).appendValue(nil, big); !errors.Is(err, hostabi.ErrValueSize) {
		t.Errorf("a list over the limit: %v", err)
	}
	if v, _, ok := wire.Parse([]byte{6, 0, 0, 0, 0}); !ok || v.List().Len() != 0 {
		t.Error("the empty list does not parse")
	}
}
