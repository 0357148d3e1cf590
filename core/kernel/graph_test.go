package kernel_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/kernel"
	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
)

func TestGraph(t *testing.T) {
	k := kernel.New(kernel.Options{})
	plugins := k.Add("plugins", kerneltest.New())
	datastore := k.Add("datastore", kerneltest.New(), plugins)
	k.Add("apiserver", kerneltest.New(), datastore, plugins, datastore)
	for _, tc := range []struct{ name, got, want string }{
		{"text", k.Graph().Text(), `UNIT       NEEDS
plugins    -
datastore  plugins
apiserver  datastore, plugins
`},
		{"mermaid", k.Graph().Mermaid(), `flowchart LR
  plugins
  datastore
  apiserver
  plugins --> datastore
  datastore --> apiserver
  plugins --> apiserver
`},
		{"dot", k.Graph().DOT(), `digraph boot {
  rankdir=LR;
  node [shape=box];
  "plugins";
  "datastore";
  "apiserver";
  "plugins" -> "datastore";
  "datastore" -> "apiserver";
  "plugins" -> "apiserver";
}
`},
	} {
		if tc.got != tc.want {
			t.Errorf("%s:\n got %s\nwant %s", tc.name, tc.got, tc.want)
		}
	}
}

// The JSON of Status is read by `cleat status` of another version, so its keys are fixed.
func TestStatusJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k := kernel.New(kernel.Options{})
		a := k.Add("a", runFunc(nil))
		before, err := json.Marshal(a.Status())
		if err != nil {
			t.Fatal(err)
		}
		if want := `{"unit":"a","state":"waiting"}`; string(before) != want {
			t.Errorf("before Run:\n got %s\nwant %s", before, want)
		}

		k = kernel.New(kernel.Options{})
		f := kerneltest.New()
		a = k.Add("a", f)
		b := k.Add("b", kerneltest.New(), a)
		r := start(t, k)
		time.Sleep(1500 * time.Millisecond)
		f.BecomeReady()
		synctest.Wait()
		for _, tc := range []struct {
			unit *kernel.Unit
			want string
		}{
			{a, `{"unit":"a","state":"ready","since":"2000-01-01T00:00:01.5Z","started_at":"2000-01-01T00:00:00Z","ready_after_ms":1500}`},
			{b, `{"unit":"b","state":"starting","needs":["a"],"since":"2000-01-01T00:00:01.5Z","started_at":"2000-01-01T00:00:01.5Z"}`},
		} {
			got, err := json.Marshal(tc.unit.Status())
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != tc.want {
				t.Errorf("%s:\n got %s\nwant %s", tc.unit.Name(), got, tc.want)
			}
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
	})
}
