package hostile

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/pluginhost/guesttest"
	"github.com/cleat-dev/cleat/hostabi"
)

func deployInput() extension.DeployInput {
	return extension.DeployInput{DeployRequest: hostabi.DeployRequest{File: "a.yaml", Content: "a: b\n"}}
}

// TestHoleHostCallsInALine makes expensive host calls one after the other,
// without a loop or a call of its own functions between them.
func TestHoleHostCallsInALine(t *testing.T) {
	m := admission("line")
	m.manifest.Capabilities = append(m.manifest.Capabilities, hostabi.ModuleObjectJSON)
	whole := m.hostFunc(hostabi.ModuleObjectJSON, "object_json")
	m.hook(hostabi.ExportAdmissionValidate, repeat(500, guesttest.Get(0), guesttest.I32(0), guesttest.I32(0), guesttest.I32(0), guesttest.Call(whole), guesttest.Drop()), guesttest.I32(0))
	h, _ := alone(t, m.bytes())
	req := request("pods")
	object := largeObject(10_000)
	req.Object = func() (map[string]any, error) { return object, nil }
	begin := time.Now()
	result, err := h.Validate(context.Background(), req)
	spent := time.Since(begin)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, allowed %t", spent, result.Allowed)
	if spent > deadline+stallMargin {
		t.Errorf("with a deadline of %s the request took %s", deadline, spent)
	}
	if result.Allowed && spent > deadline {
		t.Errorf("a verdict that came %s late was taken", spent-deadline)
	}
}

// TestHoleHostCallsInALoop is the same in a loop: a host call costs what the host
// works, not what an instruction does.
func TestHoleHostCallsInALoop(t *testing.T) {
	m := admission("round")
	m.manifest.Capabilities = append(m.manifest.Capabilities, hostabi.ModuleObjectJSON)
	whole := m.hostFunc(hostabi.ModuleObjectJSON, "object_json")
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Forever(join(guesttest.Get(0), guesttest.I32(0), guesttest.I32(0), guesttest.I32(0), guesttest.Call(whole), guesttest.Drop())))
	h, _ := alone(t, m.bytes())
	req := request("pods")
	object := largeObject(3000)
	req.Object = func() (map[string]any, error) { return object, nil }
	begin := time.Now()
	result, err := h.Validate(context.Background(), req)
	spent := time.Since(begin)
	if err != nil || result.Allowed {
		t.Fatalf("%+v, %v", result, err)
	}
	if spent > deadline+stallMargin {
		t.Errorf("with a deadline of %s the request took %s", deadline, spent)
	}
}

// TestHoleLateHostCall has a guest make one long host call as the last thing it
// does: a verdict that comes behind the deadline is no verdict.
func TestHoleLateHostCall(t *testing.T) {
	stream := yamlTexts()["a file of keys"]
	m := capable(admission("late"), hostabi.ModuleRender)
	m.manifest.Limits.MemoryPages = 128
	render := m.hostFunc(hostabi.ModuleRender, "render_yaml")
	m.memories = [][]byte{limits(80, 0)}
	m.data = [][]byte{active(1024, []byte(stream))}
	m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(1024), guesttest.I32(int32(len(stream))), guesttest.I32(0), guesttest.I32(0),
		guesttest.Call(render), guesttest.Drop(), guesttest.I32(0))
	h, _ := alone(t, m.bytes())
	// A pause of the machine behind a verdict that was in time looks the same, but
	// does not come every time.
	const pause = 150 * time.Millisecond
	late := 0
	for range tries {
		begin := time.Now()
		result := validate(t, h, "pods")
		if spent := time.Since(begin); result.Allowed && spent > deadline+pause {
			late++
			t.Logf("allowed %s after the deadline", spent-deadline)
		}
	}
	if late == tries {
		t.Error("a verdict that came after the deadline was taken")
	}
}

// TestHoleOutputFlood writes to standard output in one call more than anybody
// could read: 64 times the same memory, every byte of it a new line.
func TestHoleOutputFlood(t *testing.T) {
	m := admission("flood")
	m.manifest.Limits.MemoryPages = 512
	write := m.hostFunc(hostabi.ModuleWASI, "fd_write")
	const size = 1 << 20
	m.memories = [][]byte{limits(32, 0)}
	var list []byte
	for range 64 {
		list = append(list, 0, 0, 1, 0, byte(size&0xff), byte(size>>8&0xff), byte(size>>16), 0) // at 64 KiB
	}
	m.data = [][]byte{active(1024, list)}
	m.hook(hostabi.ExportAdmissionValidate,
		guesttest.I32(1<<16), guesttest.I32('\n'), guesttest.I32(size), memoryFill(),
		guesttest.I32(1), guesttest.I32(1024), guesttest.I32(64), guesttest.I32(0), guesttest.Call(write))
	h, log := alone(t, m.bytes())
	begin := time.Now()
	result := validate(t, h, "pods")
	lines, _ := log.size()
	spent := time.Since(begin)
	t.Logf("%s for 64 MiB of lines, allowed %t, %d lines in the log", spent, result.Allowed, lines)
	if spent > deadline+stallMargin {
		t.Errorf("with a deadline of %s the request took %s; a thousand buffers of 32 MiB would take %s",
			deadline, spent, (spent * 512).Round(time.Second))
	}
	if lines > 200 {
		t.Errorf("%d lines in the log", lines)
	}
}

// yamlTexts are streams, as large as an admission hook may hand over, that mean
// trouble for who parses them.
func yamlTexts() map[string]string {
	const most = hostabi.MaxValueBytes - 64
	fill := func(unit string) string { return strings.Repeat(unit, most/len(unit)) }
	long := strings.Repeat("x", 64<<10)
	return map[string]string{
		"a long text, by a thousand aliases": "a: &a \"" + long + "\"\nb: [" + strings.Repeat("*a,", 2000) + "1]\n",
		"a billion laughs": func() string {
			s := "a0: &a0 [l,l,l,l,l,l,l,l,l,l]\n"
			for i := 1; i < 10; i++ {
				s += fmt.Sprintf("a%d: &a%d [%s1]\n", i, i, strings.Repeat(fmt.Sprintf("*a%d,", i-1), 9))
			}
			return s
		}(),
		"a file of [":       fill("["),
		"a file of {a: ":    fill("{a: "),
		"a file of - ":      fill("- "),
		"a file of - lines": fill("-\n"),
		"a file of ? ":      fill("? "),
		"a file of anchors": fill("- &a b\n"),
		"a file of keys": func() string {
			var b strings.Builder
			for i := 0; b.Len() < most-16; i++ {
				fmt.Fprintf(&b, "k%d: 1\n", i)
			}
			return b.String()
		}(),
		"a file of equal keys":       fill("a: 1\n"),
		"a file of documents":        fill("---\n"),
		"a file of full documents":   fill("---\na: 1\n"),
		"a file of comments":         fill("# a\n"),
		"a file of folded text":      "a: >\n" + fill("  b\n\n")[:most-16],
		"a file of quoted lines":     "a: \"" + fill("\n ")[:most-16] + "\"",
		"a file of spaces":           "a:" + fill(" ")[:most-16] + "b",
		"a file of one plain scalar": "a: " + fill("b ")[:most-16],
		"a file of merges":           "a: &a {b: 1, c: 2}\nd:\n" + fill("- {<<: *a}\n")[:most-40],
		"a file of deep indents": func() string {
			var b strings.Builder
			for i := 0; b.Len() < most-8192; i++ {
				b.WriteString(strings.Repeat(" ", i) + "a:\n")
			}
			return b.String()
		}(),
		"a file of numbers in JSON":       `{"a":[` + fill("1,")[:most-16] + `1]}`,
		"a file of empty maps":            `{"a":[` + fill("{},")[:(most-16)/3*3] + `{}]}`,
		"a file of timestamps":            fill("- 2001-01-01\n"),
		"a file of octal":                 fill("- 0777_7\n"),
		"a file of binary":                "a: !!binary " + fill("QUJD")[:most-40],
		"a number as long as a file":      "a: " + fill("9")[:most-16],
		"a JSON number as long as a file": `{"a":` + fill("9")[:most-16] + `}`,
		"a float as long as a file":       `{"a":0.` + fill("9")[:most-16] + `}`,
	}
}

// TestHoleRenderYAML hands every one of them to render_yaml. The request has to be
// answered in time, and what the host holds for it must stay within reason.
func TestHoleRenderYAML(t *testing.T) {
	for name, stream := range yamlTexts() {
		t.Run(name, func(t *testing.T) {
			m := admission("yaml")
			m.manifest.Capabilities = append(m.manifest.Capabilities, hostabi.ModuleRender)
			m.manifest.Limits.MemoryPages = 128
			m.manifest.Limits.DeadlineMS = uint32(stallDeadline.Milliseconds())
			render := m.hostFunc(hostabi.ModuleRender, "render_yaml")
			m.memories = [][]byte{limits(80, 0)}
			m.data = [][]byte{active(1024, []byte(stream))}
			m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(1024), guesttest.I32(int32(len(stream))), guesttest.I32(0), guesttest.I32(0),
				guesttest.Call(render), guesttest.Drop(), guesttest.I32(0))
			saw := inChild(t, m.bytes(), time.Minute)
			saw.Message = head(saw.Message, 1)
			t.Log(saw)
			if err := saw.want(stallDeadline+stallMargin, stallGC, 256<<20); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestHoleExpensiveConditions declares as many match conditions as a manifest can
// hold, each as expensive as one may be.
func TestHoleExpensiveConditions(t *testing.T) {
	sixty := "[" + strings.TrimSuffix(strings.Repeat("1,", 60), ",") + "]"
	for name, expression := range map[string]string{
		"nested comprehensions":    sixty + ".all(a," + sixty + ".all(b," + sixty + ".all(c," + "a == b || c == 1)))",
		"comparing large objects":  sixty + ".all(a," + sixty + ".all(b, object == object))",
		"matching a large pattern": sixty + ".all(a," + sixty + ".all(b, !object.spec.text.matches('(x+x+)+y')))",
	} {
		t.Run(name, func(t *testing.T) {
			m := admission("cel")
			rule := m.manifest.Admission.Rules[0]
			rule.MatchConditions = nil
			m.manifest.Admission.Rules = nil
			for i := range 16 {
				rule.MatchConditions = append(rule.MatchConditions, hostabi.MatchCondition{Name: fmt.Sprintf("c%d", i), Expression: expression})
			}
			for i := range 8 {
				rule.Name = fmt.Sprintf("r%d", i)
				m.manifest.Admission.Rules = append(m.manifest.Admission.Rules, rule)
			}
			h, log := alone(t, m.bytes())
			req := request("pods")
			object := map[string]any{"spec": map[string]any{"text": strings.Repeat("x", 1000)}, "list": []any{}}
			for i := range 2000 {
				object["list"] = append(object["list"].([]any), map[string]any{"n": int64(i)})
			}
			req.Object = func() (map[string]any, error) { return object, nil }
			ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
			defer cancel()
			begin := time.Now()
			result, err := h.Validate(ctx, req)
			spent := time.Since(begin)
			t.Logf("%s, %v, %+v", spent, err, result)
			if spent > deadline+stallMargin {
				t.Errorf("with a deadline of %s the request took %s: %s", deadline, spent, head(log.String(), 2))
			}
		})
	}
}

// TestLargePlans has a plan hook answer with as much as it may. What the host does
// with an answer comes behind the deadline, so it is held to seconds and a bound
// of memory instead.
func TestLargePlans(t *testing.T) {
	const most = hostabi.MaxMessageBytes - 1024
	fill := func(before, unit, after string) string {
		return before + strings.Repeat(unit, (most-len(before)-len(after))/len(unit)) + after
	}
	for name, answer := range map[string]string{
		"empty maps":   fill(`{"objects":[`, `{},`, `{}]}`),
		"deep lists":   fill(`{"objects":`, `[`, ``),
		"numbers":      fill(`{"objects":[`, `1,`, `1]}`),
		"one text":     fill(`{"objects":["`, `x`, `"]}`),
		"escapes":      fill(`{"objects":["`, `\u0000`, `"]}`),
		"empty object": fill(`{"objects":[{"a":[`, `[],`, `[]]}]}`),
		"equal keys":   fill(`{`, `"objects":[],`, `"objects":[]}`),
		"no JSON":      fill(``, "\xff", ``),
	} {
		t.Run(name, func(t *testing.T) {
			m := plan("planner", hostabi.PointDeployer)
			m.manifest.Limits.MemoryPages = 128
			m.manifest.Limits.DeadlineMS = uint32(stallDeadline.Milliseconds())
			set := m.hostFunc(hostabi.ModuleCore, "output_set")
			m.memories = [][]byte{limits(80, 0)}
			m.data = [][]byte{active(1024, []byte(answer))}
			m.hook(hostabi.ExportDeployerRender, guesttest.I32(1024), guesttest.I32(int32(len(answer))), guesttest.Call(set))
			h, _ := alone(t, m.bytes())
			begin := time.Now()
			before := allocated()
			_, claimed, err := h.Render(context.Background(), deployInput())
			spent, took := time.Since(begin), allocated()-before
			t.Logf("%s, %d MiB allocated, claimed %t, %s", spent.Round(time.Millisecond), took>>20, claimed, head(fmt.Sprint(err), 1))
			if spent > time.Minute {
				t.Errorf("took %s", spent)
			}
			if took > 1<<30 {
				t.Errorf("%d MiB were allocated for an answer of 4", took>>20)
			}
		})
	}
}

// TestHoleLogVolume sends many requests to a plugin that logs as much as one call
// may: the log of a server is not a plugin's to fill.
func TestHoleLogVolume(t *testing.T) {
	m := admission("talker")
	m.manifest.Limits.DeadlineMS = 5000
	say := m.hostFunc(hostabi.ModuleCore, "log")
	m.memories = [][]byte{limits(8, 0)}
	m.data = [][]byte{active(1024, bytes.Repeat([]byte("blah "), 4000))}
	count := join(guesttest.Get(2), guesttest.I32(1), guesttest.Add(), guesttest.Set(2), guesttest.Get(2), guesttest.I32(1000), guesttest.Equal())
	m.hook(hostabi.ExportAdmissionValidate, guesttest.Until(join(guesttest.I32(8), guesttest.I32(1024), guesttest.I32(16<<10), guesttest.Call(say), guesttest.Drop(), count)), guesttest.I32(0))
	h, log := alone(t, m.bytes())
	const calls = 100
	begin := time.Now()
	for range calls {
		validate(t, h, "pods")
	}
	lines, size := log.size()
	t.Logf("%d requests in %s: %d lines, %d MiB", calls, time.Since(begin).Round(time.Millisecond), lines, size>>20)
	if size > 16<<20 {
		t.Errorf("%d requests wrote %d MiB of log; a plugin needs a budget over its calls, not only in each", calls, size>>20)
	}
}

// TestCloseWhileAtWork gives up on closing a host while a guest is at work, as a server
// does that is told to stop and to be quick about it.
func TestCloseWhileAtWork(t *testing.T) {
	m := admission("atwork")
	m.manifest.Limits.DeadlineMS = 2000
	enter := m.hostFunc(hostabi.ModuleCore, "log")
	m.data = [][]byte{active(1024, []byte("entered"))}
	m.hook(hostabi.ExportAdmissionValidate, guesttest.I32(0), guesttest.I32(1024), guesttest.I32(7), guesttest.Call(enter), guesttest.Drop(), guesttest.Forever(nil))
	saw := inChild(t, m.bytes(), time.Minute, childClose+"=1")
	t.Log(saw)
	if saw.Died != "" {
		t.Errorf("the process of the host did not live: %s", saw.Died)
	}
}
