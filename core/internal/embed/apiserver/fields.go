package apiserver

import (
	"reflect"

	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/structured-merge-diff/v6/value"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wire"
)

// fields reads single fields out of a typed object, as its JSON has them. Making
// all of the JSON to look at one label costs more than any plugin does.
type fields struct {
	steps []hostabi.PathSegment
	out   []byte
	most  int // bytes of out
	count uint32
}

// readFields appends what object has at the path; see
// extension.AdmissionRequest.Read.
func readFields(dst []byte, object runtime.Object, path []hostabi.PathSegment) (out []byte, values uint32, err error) {
	f := fields{steps: path, out: dst, most: len(dst) + hostabi.MaxValueBytes}
	switch u, ok := object.(runtime.Unstructured); {
	case object == nil:
		err = f.plain(nil, 0)
	case ok:
		err = f.plain(u.UnstructuredContent(), 0)
	default:
		err = f.typed(reflect.ValueOf(object), nil, 0)
	}
	return f.out, f.count, err
}

// add appends a JSON-shaped value.
func (f *fields) add(v any) (err error) {
	f.count++
	if f.out, err = hostabi.AppendValue(f.out, v); err == nil && len(f.out) > f.most {
		err = hostabi.ErrValueSize
	}
	return err
}

// addTyped appends a value whose type has no way of its own to make JSON.
func (f *fields) addTyped(v reflect.Value) error {
	if v.Kind() == reflect.String && len(f.out)+v.Len() <= f.most {
		f.count++
		f.out = wire.AppendString(f.out, v.String())
		return nil
	}
	json, err := shapeOf(v)
	if err != nil {
		return err
	}
	return f.add(json)
}

// typed goes on from step n in a Go value. entry is that of its type, nil when the
// caller has none at hand.
func (f *fields) typed(v reflect.Value, entry *value.TypeReflectCacheEntry, n int) error {
	for ; ; n++ {
		for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
			v, entry = v.Elem(), nil
		}
		if !v.IsValid() { // behind nil
			return f.plain(nil, n)
		}
		if entry == nil {
			entry = value.TypeReflectEntryOf(v.Type())
		}
		if entry.CanConvertToUnstructured() {
			u, err := entry.ToUnstructured(v)
			if err != nil {
				return err
			}
			return f.plain(u, n)
		}
		if n == len(f.steps) {
			break
		}
		key := f.steps[n].Key
		switch v.Kind() {
		case reflect.Slice, reflect.Array:
			return f.elements(v, n)
		case reflect.Struct:
			field := entry.Fields()[key]
			if f.steps[n].Each || field == nil {
				return f.plain(nil, n)
			}
			below := field.GetFrom(v)
			if field.CanOmit(below) {
				if below.Kind() != reflect.Struct {
					return f.plain(nil, n+1)
				}
				// The libraries differ on empty structures; JSON is made by this one.
				m, err := structOf(v)
				if err != nil {
					return err
				}
				return f.plain(m, n)
			}
			v, entry = below, field.TypeEntry
		case reflect.Map:
			if f.steps[n].Each || v.Type().Key().Kind() != reflect.String {
				return f.plain(nil, n)
			}
			v, entry = v.MapIndex(reflect.ValueOf(key).Convert(v.Type().Key())), nil
		default:
			return f.plain(nil, n)
		}
	}
	return f.addTyped(v)
}

// elements goes on behind step n in each element of a list.
func (f *fields) elements(v reflect.Value, n int) error {
	if !f.steps[n].Each || v.Type().Elem().Kind() == reflect.Uint8 { // bytes are text
		return f.plain(nil, n)
	}
	entry := value.TypeReflectEntryOf(v.Type().Elem())
	for i := range v.Len() {
		if err := f.typed(v.Index(i), entry, n+1); err != nil {
			return err
		}
	}
	return nil
}

// plain goes on from step n in a JSON-shaped value.
func (f *fields) plain(v any, n int) error {
	for ; n < len(f.steps); n++ {
		if !f.steps[n].Each {
			m, _ := v.(map[string]any)
			v = m[f.steps[n].Key]
			continue
		}
		list, _ := v.([]any)
		for _, e := range list {
			if err := f.plain(e, n+1); err != nil {
				return err
			}
		}
		return nil
	}
	return f.add(v)
}

// shapeOf is the JSON shape of a value whose type has no way of its own to make it.
func shapeOf(v reflect.Value) (any, error) {
	switch v.Kind() {
	case reflect.String:
		return v.String(), nil
	case reflect.Bool:
		return v.Bool(), nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return v.Int(), nil
	case reflect.Struct:
		return structOf(v)
	case reflect.Slice:
		return listOf(v)
	case reflect.Map:
		return mapOf(v)
	}
	// Numbers of other kinds, which few objects have.
	return field(v)
}

// structOf is the JSON shape of a struct.
func structOf(v reflect.Value) (any, error) {
	if !v.CanAddr() {
		held := reflect.New(v.Type())
		held.Elem().Set(v)
		v = held.Elem()
	}
	return runtime.DefaultUnstructuredConverter.ToUnstructured(v.Addr().Interface())
}

// field is the JSON shape of a value that becomes the only field of a struct.
func field(v reflect.Value) (any, error) {
	t := reflect.StructOf([]reflect.StructField{{Name: "Value", Type: v.Type(), Tag: `json:"value"`}})
	held := reflect.New(t)
	held.Elem().Field(0).Set(v)
	m, err := runtime.DefaultUnstructuredConverter.ToUnstructured(held.Interface())
	return m["value"], err
}

func listOf(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	if v.Type().Elem().Kind() == reflect.Uint8 { // bytes are text
		return field(v)
	}
	list := make([]any, v.Len())
	for i := range list {
		var err error
		if list[i], err = jsonOf(v.Index(i)); err != nil {
			return nil, err
		}
	}
	return list, nil
}

func mapOf(v reflect.Value) (any, error) {
	if v.IsNil() {
		return nil, nil
	}
	m := make(map[string]any, v.Len())
	if labels, ok := v.Interface().(map[string]string); ok {
		for key, value := range labels {
			m[key] = value
		}
		return m, nil
	}
	for each := v.MapRange(); each.Next(); {
		below, err := jsonOf(each.Value())
		if err != nil {
			return nil, err
		}
		m[each.Key().String()] = below
	}
	return m, nil
}

// jsonOf is the JSON shape of any value.
func jsonOf(v reflect.Value) (any, error) {
	for v.Kind() == reflect.Pointer || v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if !v.IsValid() {
		return nil, nil
	}
	if entry := value.TypeReflectEntryOf(v.Type()); entry.CanConvertToUnstructured() {
		return entry.ToUnstructured(v)
	}
	return shapeOf(v)
}
