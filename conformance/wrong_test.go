package conformance_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/conformance"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

// wrong is a guest that does one thing it must not do.
type wrong struct {
	wasm    []byte
	options []conformance.Option
}

// wrongGuests has a guest for every check, by the id of the check.
func wrongGuests(t *testing.T) map[string]wrong {
	all := map[string]wrong{}
	for _, more := range []map[string][]byte{wrongFiles(t), wrongStarts(), wrongHooks(), wrongAdmissions(), wrongDeployers(), wrongPlans()} {
		for id, wasm := range more {
			all[id] = wrong{wasm: wasm}
		}
	}
	mode := all["core/default-config-works"]
	mode.options = append(mode.options, conformance.WithConfig(map[string]any{"mode": "strict"}))
	all["core/default-config-works"] = mode
	all["core/cases"] = wrong{admission(admissionParts{}).Wasm(), []conformance.Option{conformance.WithCases(conformance.Case{
		Name:     "no host name",
		Validate: &conformance.Request{Operation: hostabi.OperationCreate, Version: "v1", Kind: "Pod", Resource: "pods", Object: map[string]any{}},
		Want:     conformance.Outcome{Answer: conformance.AnswerDeny},
	})}}
	return all
}

// TestWrongGuests holds every check to a guest that fails it, and no other.
func TestWrongGuests(t *testing.T) {
	guests := wrongGuests(t)
	ids := map[string]bool{}
	for _, c := range conformance.Checks() {
		if ids[c.ID] {
			t.Errorf("two checks are called %s", c.ID)
		}
		ids[c.ID] = true
		guest, ok := guests[c.ID]
		if !ok {
			t.Errorf("%s has no wrong guest", c.ID)
			continue
		}
		t.Run(c.ID, func(t *testing.T) {
			report, err := conformance.Check(t.Context(), guest.wasm, guest.options...)
			if err != nil {
				t.Fatal(err)
			}
			var failed []string
			for _, e := range report.Checks {
				if e.Result == conformance.Fail {
					failed = append(failed, e.ID)
					t.Logf("%s: %s", e.ID, e.Did)
				}
			}
			if !slices.Equal(failed, []string{c.ID}) {
				t.Errorf("failed %v", failed)
			}
			if report.Conforms != (c.Profile == conformance.ProfileExtended) {
				t.Errorf("conforms: %t", report.Conforms)
			}
		})
	}
	for _, id := range slices.Sorted(maps.Keys(guests)) {
		if !ids[id] {
			t.Errorf("%s is no check", id)
		}
	}
}

// TestGoodGuests runs the guests the wrong ones are made from: they pass, and
// between them they exercise every check.
func TestGoodGuests(t *testing.T) {
	configured := admission(admissionParts{})
	configured.Manifest.ConfigSchema = schema(`"strict"`)
	applied := map[string]bool{}
	for name, guest := range map[string]*guest{"admission": configured, "deployer": deployer(nil), "cni": cni(nil), "datastore": datastore(nil)} {
		t.Run(name, func(t *testing.T) {
			report := conformance.Run(t, guest.Wasm(), conformance.WithExtended())
			for _, e := range report.Checks {
				if e.Result == conformance.Pass {
					applied[e.ID] = true
				}
			}
		})
	}
	for _, c := range conformance.Checks() {
		// Not every guest has something to initialise, or cases.
		if !applied[c.ID] && c.ID != "core/initialize" && c.ID != "core/cases" {
			t.Errorf("%s applied to no good guest", c.ID)
		}
	}
}

func schema(value string) map[string]hostabi.ConfigField {
	return map[string]hostabi.ConfigField{"mode": {Type: hostabi.ConfigString, Default: json.RawMessage(value), Doc: "how strict it is"}}
}

// changed is the good admission guest with a change that is not in its code.
func changed(change func(*guest)) []byte { return admission(admissionParts{settings: change}).Wasm() }

func wrongFiles(t *testing.T) map[string][]byte {
	unexported := bytes.Replace(admission(admissionParts{}).Wasm(), []byte("\x06memory\x02\x00"), []byte("\x06memori\x02\x00"), 1)
	misnamed := admission(admissionParts{})
	misnamed.Manifest.Name = "Not A Label"
	raw, err := json.Marshal(misnamed.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	misnamed.RawManifest = raw
	return map[string][]byte{
		"core/module":           []byte("\x00asm\x0d\x00\x01\x00"), // a component
		"core/manifest-section": changed(func(g *guest) { g.NoManifest = true }),
		"core/abi-version":      changed(func(g *guest) { g.Manifest.ABI.Minor = 99 }),
		"core/manifest-valid":   misnamed.Wasm(),
		"core/abi-marker":       changed(func(g *guest) { g.NoMarker = true }),
		"core/imports-granted": changed(func(g *guest) {
			g.Manifest.Capabilities = []string{hostabi.ModuleCore, hostabi.ModuleObject}
		}),
		"core/imports-known": changed(func(g *guest) {
			g.Imports[g.imports["config_get"]].Name = "config_take"
		}),
		"core/abi-declared": changed(func(g *guest) {
			g.Imports[g.imports["config_get"]] = guesttest.HostFunction(hostabi.ModuleCore, "random")
		}),
		"core/exports-signatures": changed(func(g *guest) { delete(g.Hooks, hostabi.ExportAdmissionValidate) }),
		"core/memory-exported":    unexported,
		"core/memory-limit":       changed(func(g *guest) { g.MinPages = pagesLimit + 1 }),
		"core/no-start-function":  changed(func(g *guest) { g.Start = []byte{0x01} }),
		"core/host-accepts":       changed(func(g *guest) { g.TableMin = 1 << 21 }),
	}
}

func wrongStarts() map[string][]byte {
	first := time.Date(2026, time.January, 1, 0, 0, 0, 0, time.UTC).UnixNano()
	return map[string][]byte{
		"core/compiles":   changed(func(g *guest) { g.Hooks[hostabi.ExportAdmissionMutate] = guesttest.Drop() }),
		"core/initialize": changed(func(g *guest) { g.Hooks[hostabi.ExportInitialize] = trap() }),
		"core/init-succeeds": admission(admissionParts{init: func(g *guest) []byte {
			return g.refuse("mode: is missing")
		}}).Wasm(),
		"core/init-is-repeatable": admission(admissionParts{init: func(g *guest) []byte {
			now := code(g.call("clock_time_get", guesttest.I32(0), []byte{0x42, 0}, guesttest.I32(scratchAt)), guesttest.Drop())
			return code(now, guesttest.I32(scratchAt), guesttest.Load(), guesttest.I32(int32(first)), opNe, guesttest.If(g.refuse("it is too late")))
		}}).Wasm(),
		"core/default-config-works": admission(admissionParts{
			init: func(g *guest) []byte {
				return code(g.call("config_get", buffer()), is(2), guesttest.If(g.refuse("mode: is missing; set it")))
			},
			settings: func(g *guest) { g.Manifest.ConfigSchema = schema("") },
		}).Wasm(),
		"core/bad-config-refused": admission(admissionParts{
			init: func(g *guest) []byte {
				g.length = 0 // cleat_init has no parameters
				defer func() { g.length = 2 }()
				return code(g.call("config_get", buffer()), guesttest.Set(0), when(g.has(`"mode":" "`), trap()))
			},
			settings: func(g *guest) { g.Manifest.ConfigSchema = schema(`"strict"`) },
		}).Wasm(),
	}
}

func wrongHooks() map[string][]byte {
	onImages := func(f func(*guest) []byte) []byte { return admission(admissionParts{images: f}).Wasm() }
	return map[string][]byte{
		"core/deadline":     onImages(func(*guest) []byte { return guesttest.Forever(nil) }),
		"core/hooks-return": onImages(func(*guest) []byte { return trap() }),
		"core/result-known": onImages(func(*guest) []byte { return give(7) }),
		"core/smallest-input": onImages(func(g *guest) []byte {
			return when(code(word(1), is(0)), g.refuse("spec.containers: is empty"))
		}),
		"core/buffer-protocol": admission(admissionParts{limit: 200, images: func(g *guest) []byte {
			return when(code(guesttest.Get(2), guesttest.I32(200), opGtU), g.refuse("the images are too long"))
		}}).Wasm(),
		"core/unknown-fields": deployer(func(g *guest) []byte { return when(g.has("a_newer_text"), trap()) }).Wasm(),
		"core/error-text": deployer(func(g *guest) []byte {
			return when(g.has("[unclosed"), give(int32(hostabi.EINVAL)))
		}).Wasm(),
	}
}

func wrongAdmissions() map[string][]byte {
	onHost := func(f func(*guest) []byte) []byte { return admission(admissionParts{host: f}).Wasm() }
	onImages := func(f func(*guest) []byte) []byte { return admission(admissionParts{images: f}).Wasm() }
	onField := func(field hostabi.RequestField, f func(*guest) []byte) []byte {
		return admission(admissionParts{field: field, request: f}).Wasm()
	}
	length, count := word(1), word(1)
	const calls = scratchAt // a counter of this instance
	return map[string][]byte{
		"admission/typical-object": onHost(func(g *guest) []byte {
			return when(g.has("registry.local/app:1.0"), g.refuse("spec.hostname: is strange"))
		}),
		"admission/absent-fields": admission(admissionParts{
			images: func(*guest) []byte { return code(count, guesttest.Set(3)) },
			host: func(*guest) []byte {
				return when(both(code(tag(), is(0)), code(guesttest.Get(3), guesttest.I32(0), opNe)), trap())
			},
		}).Wasm(),
		"admission/wrong-types": onHost(func(*guest) []byte { return when(code(tag(), is(3)), trap()) }),
		"admission/empty-texts": onHost(func(*guest) []byte {
			return when(both(code(tag(), is(5)), code(length, is(0))), trap())
		}),
		"admission/unicode": onHost(func(g *guest) []byte { return when(g.has("\u65e5"), trap()) }),
		"admission/long-texts": onHost(func(*guest) []byte {
			return when(code(guesttest.Get(2), guesttest.I32(300_000), opGtU), trap())
		}),
		"admission/huge-lists": onImages(func(*guest) []byte {
			return when(both(code(tag(), is(6)), code(count, guesttest.I32(1000), opGeU)), trap())
		}),
		"admission/empty-request-fields": onField(hostabi.RequestName, func(*guest) []byte {
			return when(code(guesttest.Get(2), is(0)), trap())
		}),
		"admission/unknown-rules": onImages(func(*guest) []byte {
			return when(code(guesttest.Get(1), wideOne, opWide), trap())
		}),
		"admission/operations": onField(hostabi.RequestOperation, func(g *guest) []byte { return when(g.has("UPDATE"), trap()) }),
		"admission/delete":     onField(hostabi.RequestOperation, func(g *guest) []byte { return when(g.has("DELETE"), trap()) }),
		"admission/dry-run": onField(hostabi.RequestDryRun, func(g *guest) []byte {
			return when(g.has("true"), give(hostabi.VerdictAllow))
		}),
		"admission/deterministic": admission(admissionParts{deny: func(g *guest) []byte {
			return code(g.letters(scratchAt), g.call("deny", guesttest.Get(0), guesttest.I32(scratchAt), guesttest.I32(8), guesttest.I32(0)), guesttest.Drop())
		}}).Wasm(),
		"admission/instance-independent": onHost(func(*guest) []byte {
			counted := code(guesttest.I32(calls), guesttest.I32(calls), guesttest.Load(), guesttest.I32(1), guesttest.Add(), guesttest.Store())
			return code(counted, when(code(guesttest.I32(calls), guesttest.Load(), guesttest.I32(3), opGtU), give(hostabi.VerdictAllow)))
		}),
		"admission/memory-bounded": onHost(func(*guest) []byte {
			return code(guesttest.I32(1), guesttest.GrowMemory(), guesttest.Drop())
		}),
		"admission/idempotent-mutation": admission(admissionParts{mutate: func(g *guest) []byte {
			set := func(text string) []byte {
				return code(g.call("object_set", guesttest.Get(0), guesttest.I32(pathLabel), guesttest.I32(-1), g.value(text)), guesttest.Drop(), give(hostabi.VerdictAllow))
			}
			return code(when(g.has("false"), set("true")), set("false"))
		}}).Wasm(),
		"admission/warnings-bounded": onImages(func(g *guest) []byte {
			warn := code(g.call("warn", guesttest.Get(0), g.text("spec.containers: are many")), guesttest.Drop())
			var forty []byte
			for range 40 {
				forty = code(forty, warn)
			}
			return when(both(code(tag(), is(6)), code(count, guesttest.I32(1000), opGeU)), forty)
		}),
		"admission/deny-explained": admission(admissionParts{deny: func(*guest) []byte { return []byte{0x01} }}).Wasm(),
	}
}

func wrongDeployers() map[string][]byte {
	traps := func(text string) []byte {
		return deployer(func(g *guest) []byte { return when(g.has(text), trap()) }).Wasm()
	}
	object := `{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}`
	return map[string][]byte{
		"deployer/typical-file":   traps("name: conformance"),
		"deployer/garbage":        traps("[unclosed"),
		"deployer/unicode":        traps("\ufeff"),
		"deployer/many-documents": traps("conformance-999"),
		"deployer/variables":      traps("NO_SUCH_VARIABLE"),
		"deployer/kinds":          traps(`"kind":"conformance"`),
		"deployer/deterministic": deployer(func(g *guest) []byte {
			return when(g.has("name: conformance"), g.told(`{"objects":[],"warnings":["########"]}`))
		}).Wasm(),
		"deployer/objects-complete": deployerWith(`{"objects":[{"kind":"ConfigMap","metadata":{"name":"a"}}]}`, nil).Wasm(),
		"deployer/objects-unique":   deployerWith(`{"objects":[`+object+`,`+object+`]}`, nil).Wasm(),
	}
}

func wrongPlans() map[string][]byte {
	const typicalNode = `"addresses":["192.0.2.1"]`
	cniTraps := func(text string) []byte {
		return cni(func(g *guest) []byte { return when(g.has(text), trap()) }).Wasm()
	}
	storeTraps := func(text string) []byte {
		return datastore(func(g *guest) []byte { return when(g.has(text), trap()) }).Wasm()
	}
	return map[string][]byte{
		"cni/typical-node": cniTraps(typicalNode),
		"cni/no-pod-cidrs": cniTraps(`"pod_cidrs":[]`),
		"cni/odd-facts":    cniTraps(`"mtu":65535`),
		"cni/deterministic": cni(func(g *guest) []byte {
			return when(g.has(typicalNode), g.told(`{"driver":"none","description":"########"}`))
		}).Wasm(),
		"cni/plan-valid":          cniWith(`{"driver":"magic","description":"magic"}`, nil).Wasm(),
		"datastore/endpoints":     storeTraps(`"endpoint":"postgresql://db.local`),
		"datastore/odd-endpoints": storeTraps(`"endpoint":"@"`),
		"datastore/secret-kept": datastore(func(g *guest) []byte {
			echo := g.call("error_set", guesttest.I32(bufferAt), guesttest.Get(0))
			return when(g.has(`"endpoint":"conformance://`), echo, guesttest.Drop(), give(int32(hostabi.EINVAL)))
		}).Wasm(),
		"datastore/deterministic": datastore(func(g *guest) []byte {
			return when(g.has(`"endpoint":"sqlite://db.local`), g.told(`{"driver":"kine","endpoint":"sqlite:","description":"########"}`))
		}).Wasm(),
		"datastore/plan-valid": datastoreWith(`{"driver":"magic","endpoint":"magic"}`, nil).Wasm(),
	}
}
