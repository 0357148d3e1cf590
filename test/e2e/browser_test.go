//go:build e2e

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// params are those of a call of the DevTools protocol, or its result.
type params map[string]any

// browser is a tab of Chromium on a machine, driven through the DevTools protocol
// over the machine's loopback.
type browser struct {
	machine *lab.Machine
	address string // ws://…, of the whole browser
	conn    *websocket.Conn
	session string // of the tab
	calls   int
	said    []string // errors and violations on the tab's console
}

// answerPatience is how long one call may take on a machine that does other work.
const answerPatience = 90 * time.Second

// startBrowser starts Chromium on a machine, with an empty tab.
func startBrowser(t *testing.T, m *lab.Machine) *browser {
	t.Helper()
	process := m.Start(t, "chromium", "chromium", "--headless", "--no-sandbox", "--ignore-certificate-errors", "--disable-gpu",
		"--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update",
		"--user-data-dir=/run/chromium", "--remote-debugging-address=127.0.0.1", "--remote-debugging-port=9222", "about:blank")
	listening := regexp.MustCompile(`DevTools listening on (ws://127\.0\.0\.1:9222/\S+)`)
	b := &browser{machine: m}
	lab.Eventually(t, podPatience, "Chromium runs", func() error {
		if ended, err := process.Ended(); ended {
			t.Fatalf("chromium ended: %v (Debian package chromium)", err)
		}
		found := listening.FindStringSubmatch(process.Log())
		if found == nil {
			return errors.New(process.Log())
		}
		b.address = found[1]
		return nil
	})
	b.attach(t)
	return b
}

// attach connects to a new tab, with cookies of its own.
func (b *browser) attach(t *testing.T) {
	t.Helper()
	dialer := websocket.Dialer{NetDialContext: b.machine.Dial, HandshakeTimeout: answerPatience}
	conn, res, err := dialer.DialContext(t.Context(), b.address, nil)
	if err != nil {
		t.Fatalf("connect to Chromium: %v", err)
	}
	res.Body.Close()
	t.Cleanup(func() { conn.Close() })
	b.conn = conn
	context := b.call(t, "Target.createBrowserContext", params{})["browserContextId"]
	target := b.call(t, "Target.createTarget", params{"url": "about:blank", "browserContextId": context})["targetId"]
	b.session = fmt.Sprint(b.call(t, "Target.attachToTarget", params{"targetId": target, "flatten": true})["sessionId"])
	for _, domain := range []string{"Page", "Runtime", "Log", "Audits"} {
		b.call(t, domain+".enable", params{})
	}
}

// stranger is another tab, which shares nothing with the first.
func (b *browser) stranger(t *testing.T) *browser {
	t.Helper()
	other := &browser{machine: b.machine, address: b.address}
	other.attach(t)
	return other
}

// call calls a method and returns its result. What the console says meanwhile is
// kept.
func (b *browser) call(t *testing.T, method string, p params) params {
	t.Helper()
	b.calls++
	request := params{"id": b.calls, "method": method, "params": p}
	if b.session != "" {
		request["sessionId"] = b.session
	}
	deadline := time.Now().Add(answerPatience)
	if err := errors.Join(b.conn.SetReadDeadline(deadline), b.conn.SetWriteDeadline(deadline), b.conn.WriteJSON(request)); err != nil {
		t.Fatalf("%s: %v", method, err)
	}
	for {
		var m struct {
			ID     int
			Method string
			Params json.RawMessage
			Result params
			Error  *struct{ Message string }
		}
		if err := b.conn.ReadJSON(&m); err != nil {
			t.Fatalf("%s: %v", method, err)
		}
		switch {
		case m.Method != "":
			b.note(m.Method, string(m.Params))
		case m.ID != b.calls:
		case m.Error != nil:
			t.Fatalf("%s: %s", method, m.Error.Message)
		default:
			return m.Result
		}
	}
}

// note keeps what a page without fault does not say.
func (b *browser) note(method, text string) {
	switch method {
	case "Runtime.exceptionThrown", "Audits.issueAdded":
	case "Runtime.consoleAPICalled", "Log.entryAdded":
		if !strings.Contains(text, `"error"`) && !strings.Contains(text, `"warning"`) {
			return
		}
	default:
		return
	}
	b.said = append(b.said, method+" "+text)
}

// blameless fails the test if the console had an error, or the browser an issue
// such as a violation of the page's policy.
func (b *browser) blameless(t *testing.T) {
	t.Helper()
	b.eval(t, "0") // what was said before its answer has come
	for _, s := range b.said {
		t.Errorf("the browser says: %s", s)
	}
}

// open goes to an address and returns when the page is there.
func (b *browser) open(t *testing.T, url string) {
	t.Helper()
	if failed := b.call(t, "Page.navigate", params{"url": url})["errorText"]; failed != nil {
		t.Fatalf("open %s: %v", url, failed)
	}
	b.await(t, "the page is loaded", `[document.readyState === "complete" && location.pathname !== "blank", document.readyState]`)
}

func (b *browser) resize(t *testing.T, width, height int) {
	t.Helper()
	b.call(t, "Emulation.setDeviceMetricsOverride", params{"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false})
}

// eval returns the value of an expression on the page: bool, float64, string …
func (b *browser) eval(t *testing.T, expression string) any {
	t.Helper()
	value, err := b.try(t, expression)
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func (b *browser) try(t *testing.T, expression string) (any, error) {
	t.Helper()
	result := b.call(t, "Runtime.evaluate", params{"expression": expression, "returnByValue": true})
	if thrown := result["exceptionDetails"]; thrown != nil {
		return nil, fmt.Errorf("%s: %v", expression, thrown)
	}
	object, ok := result["result"].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: %v", expression, result)
	}
	return object["value"], nil
}

// await waits until an expression, a pair, begins with true; the rest says what is
// there instead.
func (b *browser) await(t *testing.T, what, expression string) {
	t.Helper()
	lab.Eventually(t, podPatience, what, func() error {
		value, err := b.try(t, expression)
		if err != nil {
			return err
		}
		pair, ok := value.([]any)
		if !ok || len(pair) != 2 || pair[0] != true {
			return fmt.Errorf("%v", value)
		}
		return nil
	})
}
