package conformance_test

import (
	"encoding/json"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost"
	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
)

// TestOlderGuests runs guests that were built against the table of an older
// ABI, and were not built again since.
func TestOlderGuests(t *testing.T) {
	for _, name := range []string{"abi-1.0-admission", "abi-1.0-deployer"} {
		t.Run(name, func(t *testing.T) {
			wasm := read(t, filepath.Join("testdata", name+".wasm"))
			if len(wasm) > 10_000 {
				t.Errorf("%d bytes", len(wasm))
			}
			if hostabi.ABIMinor == 0 {
				t.Error("the host is no newer than the guest")
			}
			report := conformance.Run(t, wasm, conformance.WithExtended())
			if report.Plugin.ABI != "1.0" || !report.Conforms {
				t.Errorf("plugin %+v", report.Plugin)
			}
		})
	}
}

// TestNewerGuests runs guests with fields and sections this host does not know.
func TestNewerGuests(t *testing.T) {
	for name, g := range map[string]*guest{"admission": admission(admissionParts{}), "deployer": deployer(nil)} {
		t.Run(name, func(t *testing.T) {
			wasm := g.Wasm()
			for _, section := range []string{"cleat.future", "name", "producers", "vendor.notes"} {
				var err error
				if wasm, err = wasmfile.SetCustom(wasm, section, []byte("\x00\xffwhat it means is not known")); err != nil {
					t.Fatal(err)
				}
			}
			wasm, err := wasmfile.SetCustom(wasm, hostabi.ManifestSection, extendedManifest(t, g.Manifest))
			if err != nil {
				t.Fatal(err)
			}
			conformance.Run(t, wasm, conformance.WithExtended())
		})
	}
}

// extendedManifest is a manifest with more fields, at every level.
func extendedManifest(t *testing.T, m hostabi.Manifest) []byte {
	t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	value, err := hostabi.ParseJSON(text)
	if err != nil {
		t.Fatal(err)
	}
	extendObject(value)
	text, err = hostabi.AppendJSON(nil, value)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func extendObject(value any) {
	switch value := value.(type) {
	case map[string]any:
		for _, key := range slices.Collect(maps.Keys(value)) {
			extendObject(value[key])
		}
		value["future_text"], value["future_object"], value["future_list"] = "a", map[string]any{"b": true}, []any{int64(1), nil}
	case []any:
		for _, v := range value {
			extendObject(v)
		}
	}
}

// TestTooNewGuests refuses what needs more than the host has, and says so.
func TestTooNewGuests(t *testing.T) {
	for _, test := range []struct {
		version hostabi.ABIVersion
		want    string
	}{
		{hostabi.ABIVersion{Major: 1, Minor: 99}, "needs ABI 1.99, this host has 1."},
		{hostabi.ABIVersion{Major: 2}, "needs ABI 2.0, this host has 1."},
	} {
		g := admission(admissionParts{})
		g.Manifest.ABI = test.version
		report, err := conformance.Check(t.Context(), g.Wasm())
		if err != nil {
			t.Fatal(err)
		}
		failed := report.Failed(conformance.ProfileCore)
		if len(failed) != 1 || failed[0].ID != "core/abi-version" || !strings.Contains(failed[0].Did, test.want) {
			t.Errorf("ABI %s: %+v", test.version, failed)
		}
		if _, _, err := pluginhost.LockAlone(g.Wasm()); err == nil || !strings.Contains(err.Error(), "manifest: abi.") {
			t.Errorf("ABI %s: the host says %v", test.version, err)
		}
	}
}
