//go:build e2e

package e2e

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/hostabi/wasmfile"
	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// trapLabel makes faultyBaseline crash on requests of the namespace that has it.
const trapLabel = "baseline.cleat.dev/trap"

// faultyVersion is that of faultyBaseline.
const faultyVersion = "0.3.0"

// faultyBaseline is an admission-baseline that allows everything and says so in
// the audit event, and crashes where trapLabel is true. It asks for nothing that
// the real one does not, and nothing is wrong with it on the requests that the
// conformance suite can think of.
func faultyBaseline(t *testing.T) []byte {
	t.Helper()
	manifest := baselineManifest(t)
	manifest.Version = faultyVersion
	text, err := json.Marshal(manifest)
	if err != nil {
		t.Fatal(err)
	}
	wasm, err := wasmfile.SetCustom([]byte(faultyModule()), hostabi.ManifestSection, text)
	if err != nil {
		t.Fatal(err)
	}
	return wasm
}

// faultyModule is the code of faultyBaseline, section by section, so that no
// compiler is needed.
func faultyModule() string {
	const (
		key       = "decided-by"
		labelAt   = 0 // where memory holds the texts, one after the other
		keyAt     = labelAt + len(trapLabel)
		versionAt = keyAt + len(key)
		bufferAt  = versionAt + len(faultyVersion)
		labelGet  = "\x10\x00" // call the first import
		audit     = "\x10\x01" // call the second
		handle    = "\x20\x00" // the first parameter of the hook
		drop      = "\x1a"
	)
	validate := handle + number(labelAt) + number(len(trapLabel)) + number(bufferAt) + number(len("true")) + labelGet +
		number(len("true")) + "\x46\x04\x40\x00\x0b" + // equal: if, unreachable, end
		handle + number(keyAt) + number(len(key)) + number(versionAt) + number(len(faultyVersion)) + audit + drop + number(0)
	function := func(name string) string { return sized(hostabi.ModuleRequest) + sized(name) + "\x00\x00" } // of type 0
	body := func(code string) string { return sized("\x00" + code + "\x0b") }                               // no locals
	section := func(id string, items ...string) string { return id + sized(list(items...)) }
	return "\x00asm\x01\x00\x00\x00" +
		section("\x01", // types
			"\x60\x05\x7f\x7f\x7f\x7f\x7f\x01\x7f", // 0: the imports, five i32 to i32
			"\x60\x02\x7f\x7e\x01\x7f",             // 1: a hook, i32 and i64 to i32
			"\x60\x00\x01\x7f",                     // 2: cleat_init
			"\x60\x00\x00") +                       //                       3: the marker
		section("\x02", function("namespace_label_get"), function("audit")) + // imports, functions 0 and 1
		section("\x03", "\x03", "\x02", "\x01", "\x01") + // the types of functions 2 to 5
		section("\x05", "\x00\x01") + // memory of a page
		section("\x07", // exports
			sized(hostabi.ExportMemory)+"\x02\x00",
			sized(hostabi.ExportABIMarker)+"\x00\x02",
			sized(hostabi.ExportInit)+"\x00\x03",
			sized(hostabi.ExportAdmissionMutate)+"\x00\x04",
			sized(hostabi.ExportAdmissionValidate)+"\x00\x05") +
		section("\x0a", body(""), body(number(0)), body(number(0)), body(validate)) + // code
		section("\x0b", "\x00"+number(labelAt)+"\x0b"+sized(trapLabel+key+faultyVersion)) // data
}

// number is the instruction that pushes a number from 0 to 63.
func number(n int) string { return string([]byte{0x41, byte(n)}) }

// sized is a text after its length, as WebAssembly has names, bodies and sections.
func sized(s string) string { return string(binary.AppendUvarint(nil, uint64(len(s)))) + s }

// list is what WebAssembly calls a vector.
func list(items ...string) string {
	return string(binary.AppendUvarint(nil, uint64(len(items)))) + strings.Join(items, "")
}

// testPluginRollBack puts a version in charge that passes the conformance suite
// and crashes on requests, and wants every request decided by the version before,
// which then comes back by itself.
func testPluginRollBack(t *testing.T, n *node, c *traces, before string) {
	const version = faultyVersion
	const field = "jsonpath={.status.servers[0].version}"
	ns := n.namespace(t, "trapped", enforce, trapLabel+"=true")
	lab.Eventually(t, podPatience, "the refusal by "+before, func() error {
		if err := try(n, ns, "before", true); !refused(err) {
			return fmt.Errorf("got %v, want a refusal", err)
		}
		return nil
	})

	putPlugin(t, n, faultyBaseline(t), "faulty.wasm")
	n.Must(t, "sh", "-c", "cp "+lockPath+" /etc/cleat/before.lock && cleat plugin lock --accept --plugins-lock "+lockPath+" "+pluginsDir+"/faulty.wasm && cleat plugin reload")
	if err := try(n, "enforced", "lenient", true); err != nil {
		t.Errorf("%s does not decide: %v", version, err)
	}
	wantAnnotations(t, n, "enforced", "lenient", 201, map[string]string{"decided-by": version})
	eventuallyPrints(t, n.Machine, podPatience, version, "kubectl", "get", "plugin", "admission-baseline", "-o", field)

	// One request alone, to see what becomes of it; then many, during which the
	// roll-back comes. None may fail, and none may get what is not allowed.
	if err := try(n, ns, "first", true); !refused(err) {
		t.Errorf("got %v, want a refusal by %s", err, before)
	}
	if err := try(n, "enforced", "still-lenient", true); err != nil {
		t.Errorf("one fault was enough to take %s out: %v", version, err)
	}
	var requests sync.WaitGroup
	for i := range 3 {
		requests.Go(func() {
			for j := range 2 {
				if err := try(n, ns, fmt.Sprintf("decent-%d-%d", i, j), false); err != nil {
					t.Errorf("a decent pod: %v", err)
				}
				if err := try(n, ns, fmt.Sprintf("privileged-%d-%d", i, j), true); !refused(err) {
					t.Errorf("a privileged pod: got %v, want a refusal by %s", err, before)
				}
			}
		})
	}
	requests.Wait()

	eventuallyPrints(t, n.Machine, podPatience, before, "kubectl", "get", "plugin", "admission-baseline", "-o", field)
	t.Logf("kubectl get plugin:\n%s", n.Must(t, "kubectl", "get", "plugin", "admission-baseline"))
	if err := try(n, "enforced", "strict", true); !refused(err) {
		t.Errorf("after the roll-back: got %v, want a refusal by %s", err, before)
	}
	t.Run("in the audit log", func(t *testing.T) {
		wantAnnotations(t, n, ns, "first", 403, map[string]string{"validate": "denied"})
	})
	t.Run("in the trace", func(t *testing.T) {
		calls := c.wantCalls(t, audited(t, n, ns, "first"), version+" cleat_admission_mutate 0",
			version+" cleat_admission_validate ", before+" cleat_admission_validate 1")
		if !strings.Contains(calls[1].Error, "the guest crashed") {
			t.Errorf("the span of the crash: %v", calls[1])
		}
	})
	t.Run("as an event", func(t *testing.T) {
		const message = "jsonpath={range .items[*]}{.type} {.involvedObject.kind}/{.involvedObject.name}: {.message}{\"\\n\"}{end}"
		events := []string{"kubectl", "get", "events", "-A", "--field-selector", "reason=PluginRolledBack", "-o", message}
		eventuallyPrints(t, n.Machine, podPatience, "admission-baseline "+version+" failed on trial", events...)
		got := n.Must(t, events...)
		t.Logf("event: %s", got)
		if !strings.HasPrefix(got, "Warning ") || strings.Count(got, "\n") != 1 || !strings.Contains(got, "put the old one back") {
			t.Errorf("want one warning that says what to do, got:\n%s", got)
		}
	})
	t.Run("in the server's log", func(t *testing.T) {
		line := ""
		for l := range strings.Lines(n.server.Log()) {
			if strings.Contains(l, "plugins rolled back") {
				line = l
			}
		}
		t.Logf("log: %s", line)
		for _, part := range []string{"admission-baseline", version, "the guest crashed", "put the old one back"} {
			if !strings.Contains(line, part) {
				t.Errorf("the line of the roll-back lacks %q: %q", part, line)
			}
		}
	})
	t.Run("the way out", func(t *testing.T) {
		if lock := n.Must(t, "cat", lockPath); !strings.Contains(lock, version) {
			t.Errorf("the lock no longer names %s:\n%s", version, lock)
		}
		out := n.Must(t, "sh", "-c", "cp /etc/cleat/before.lock "+lockPath+" && cleat plugin reload")
		t.Logf("reload: %s", out)
		if err := try(n, ns, "after", true); !refused(err) {
			t.Errorf("after the reload: got %v, want a refusal by %s", err, before)
		}
	})
}
