package pluginhost

import (
	"encoding/json"
	"errors"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/google/go-cmp/cmp"
)

// write is a mutation as a guest asks for it.
type write struct {
	kind  mutationKind
	path  string
	index int32
	value any
}

func record(object map[string]any, writes []write) ([]mutation, bool) {
	var all []mutation
	for _, w := range writes {
		path, err := hostabi.ParseFieldPath(w.path)
		if err != nil {
			return nil, false
		}
		p := newProjection(path, nil, nil)
		way, ok := p.locate(object, w.index)
		if !ok || w.kind == mutationAppend && p.steps[len(p.steps)-1].Each {
			return nil, false
		}
		all = append(all, mutation{kind: w.kind, path: w.path, way: way, value: w.value})
	}
	return all, true
}

func TestApplyMutations(t *testing.T) {
	const object = `{"m":{"a":1},"l":[{"n":0,"s":["p","q"]},{"n":1},{"n":2,"s":["r"]}],"null":null,"text":"t"}`
	s, r, a := mutationSet, mutationRemove, mutationAppend
	tests := map[string]struct {
		writes []write
		want   string // what changed, as a JSON object; "" = an error
		err    error
	}{
		"set":                       {[]write{{s, "m.a", -1, int64(2)}}, `{"m":{"a":2}}`, nil},
		"set makes maps":            {[]write{{s, "x.y.z", -1, true}}, `{"x":{"y":{"z":true}}}`, nil},
		"set under null":            {[]write{{s, "null.y", -1, "v"}}, `{"null":{"y":"v"}}`, nil},
		"set under text":            {[]write{{s, "text.y", -1, "v"}}, "", errNotAMap},
		"remove":                    {[]write{{r, "m.a", -1, nil}}, `{"m":{}}`, nil},
		"remove what is absent":     {[]write{{r, "m.b", -1, nil}, {r, "x.y.z", -1, nil}, {r, "null.z", -1, nil}}, `{}`, nil},
		"remove under text":         {[]write{{r, "text.y", -1, nil}}, "", errNotAMap},
		"element":                   {[]write{{s, "l[*]", 1, "new"}}, `{"l":[{"n":0,"s":["p","q"]},"new",{"n":2,"s":["r"]}]}`, nil},
		"member of elements":        {[]write{{s, "l[*].n", 0, "x"}, {s, "l[*].k", 1, "y"}}, `{"l":[{"n":"x","s":["p","q"]},{"n":1,"k":"y"},{"n":2,"s":["r"]}]}`, nil},
		"flattened position":        {[]write{{s, "l[*].s[*]", 2, "R"}}, `{"l":[{"n":0,"s":["p","q"]},{"n":1},{"n":2,"s":["R"]}]}`, nil},
		"removed elements count":    {[]write{{r, "l[*]", 0, nil}, {r, "l[*]", 2, nil}, {s, "l[*].n", 1, "still 1"}}, `{"l":[{"n":"still 1"}]}`, nil},
		"removed twice":             {[]write{{r, "l[*]", 1, nil}, {r, "l[*]", 1, nil}}, `{"l":[{"n":0,"s":["p","q"]},{"n":2,"s":["r"]}]}`, nil},
		"inside a removed element":  {[]write{{r, "l[*]", 1, nil}, {s, "l[*].n", 1, "x"}}, "", errElementGone},
		"inner and outer removed":   {[]write{{r, "l[*].s[*]", 0, nil}, {r, "l[*]", 2, nil}}, `{"l":[{"n":0,"s":["q"]},{"n":1}]}`, nil},
		"append":                    {[]write{{a, "l", -1, "x"}, {a, "l", -1, "y"}}, `{"l":[{"n":0,"s":["p","q"]},{"n":1},{"n":2,"s":["r"]},"x","y"]}`, nil},
		"append to an inner list":   {[]write{{a, "l[*].s", 1, "x"}}, `{"l":[{"n":0,"s":["p","q"]},{"n":1,"s":["x"]},{"n":2,"s":["r"]}]}`, nil},
		"append makes the list":     {[]write{{a, "new.list", -1, "x"}}, `{"new":{"list":["x"]}}`, nil},
		"append to text":            {[]write{{a, "text", -1, "x"}}, "", errNotAList},
		"the list was replaced":     {[]write{{s, "l", -1, []any{}}, {s, "l[*].n", 2, "x"}}, "", errElementGone},
		"the list was made a text":  {[]write{{s, "l", -1, "x"}, {r, "l[*]", 0, nil}}, "", errElementGone},
		"what was set is set again": {[]write{{s, "m", -1, map[string]any{"b": int64(1)}}, {s, "m.c", -1, int64(2)}}, `{"m":{"b":1,"c":2}}`, nil},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			input, want := parse(t, object), parse(t, object)
			mutations, ok := record(input, test.writes)
			if !ok {
				t.Fatal("could not be recorded")
			}
			got, err := applyMutations(input, mutations)
			if diff := cmp.Diff(want, input); diff != "" {
				t.Errorf("the input was written (-want +got):\n%s", diff)
			}
			if test.want == "" {
				if !errors.Is(err, test.err) {
					t.Errorf("got %v, %v, want %v", got, err, test.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for k, v := range parse(t, test.want) {
				want[k] = v
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
		})
	}
	if _, err := applyMutations(nil, []mutation{{}}); err == nil {
		t.Error("no error for an absent object")
	}
}

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	v, err := hostabi.ParseJSON([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	object, _ := v.(map[string]any)
	return object
}

// FuzzMutations applies arbitrary writes to arbitrary objects: the input never
// changes, and the result is JSON without a trace of removed elements.
func FuzzMutations(f *testing.F) {
	f.Add([]byte(`{"l":[1,{"a":[2,3]}],"m":{"x":null}}`), []byte{0, 1, 0, 1, 2, 1, 2, 0, 0, 0, 3, 2, 1, 4, 0})
	f.Add([]byte(`{"l":[[],[[1]],[]]}`), []byte{1, 4, 0, 1, 1, 0, 2, 0, 0})
	paths := []string{"m.x", "l[*]", "l", "l[*].a", "l[*].a[*]", "m", "m.x.y[*].z", "new.a.b"}
	f.Fuzz(func(t *testing.T, text, program []byte) {
		if len(program) > 300 {
			return
		}
		v, err := hostabi.ParseJSON(text)
		object, ok := v.(map[string]any)
		if err != nil || !ok {
			return
		}
		var writes []write
		for ; len(program) >= 3; program = program[3:] {
			w := write{mutationKind(program[0] % 3), paths[int(program[1])%len(paths)], int32(program[2]), map[string]any{"a": []any{int64(program[2])}}}
			path, err := hostabi.ParseFieldPath(w.path)
			if err != nil {
				t.Fatal(err)
			}
			if path.Wildcards() == 0 {
				w.index = -1
			}
			if _, ok := record(object, []write{w}); ok {
				writes = append(writes, w)
			}
		}
		mutations, _ := record(object, writes)
		before, err := json.Marshal(object)
		if err != nil {
			t.Fatal(err)
		}
		result, err := applyMutations(object, mutations)
		after, errAfter := json.Marshal(object)
		if errAfter != nil || string(before) != string(after) {
			t.Fatalf("the input changed from %s to %s, %v", before, after, errAfter)
		}
		if err != nil {
			return
		}
		checkJSON(t, result)
	})
}

func checkJSON(t *testing.T, v any) {
	switch v := v.(type) {
	case map[string]any:
		for _, e := range v {
			checkJSON(t, e)
		}
	case []any:
		for _, e := range v {
			checkJSON(t, e)
		}
	case nil, string, bool, int64, float64:
	default:
		t.Fatalf("%T in the result", v)
	}
}
