//go:build e2e

package e2e

import (
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

const (
	// pictureVariable names the file that gets the screenshot, for docs/images/ui.png.
	pictureVariable = "CLEAT_UI_PICTURE"
	// shotsVariable names a directory that gets one of each width, to look at.
	shotsVariable = "CLEAT_UI_SHOTS"
)

// hostileName is a file of the manifests directory, and a kind, that would be
// markup if anything of it were.
const hostileName = `<img src=x onerror=alert(1)>`

// TestUI watches a boot in a browser, from a link to a page that is left alone
// until the end.
func TestUI(t *testing.T) {
	l := newLab(t)
	// The browser is elsewhere: it drops its connections when its machine gets a link.
	n, desk := newNode(t, l, "n1"), l.Machine("desk")
	n.start(t)
	link := n.awaitLink(t)
	b := startBrowser(t, desk)
	b.open(t, link)
	b.await(t, "the units of a booting server", `[document.querySelectorAll("#graph g").length > 10 && document.querySelectorAll("#units tbody tr").length > 10,
		document.body.innerText]`)
	if dir := os.Getenv(shotsVariable); dir != "" {
		b.picture(t, dir+"/booting.png", 1280, true)
	}
	if hash := b.eval(t, `location.href`); strings.Contains(fmt.Sprint(hash), "#") {
		t.Errorf("the code stays in the address bar: %v", hash)
	}
	n.awaitReady(t)
	b.await(t, "all units are ready", `[/ready$/.test(document.getElementById("state").innerText) &&
		[...document.querySelectorAll("#units tbody tr")].every(r => r.innerText.includes("✓ ready")) && document.querySelectorAll("#graph g.good").length > 15,
		document.getElementById("units").innerText]`)
	b.await(t, "the events of the node", `[document.getElementById("events").innerText.includes("ServerStarted"), document.getElementById("events").innerText]`)
	b.await(t, "every packaged addon", `[document.querySelectorAll("#addons .good").length >= 2, document.getElementById("addons").innerText]`)

	b.await(t, "the title", `[document.title.includes("n1 ready"), document.title]`)
	if reloaded := b.eval(t, `performance.getEntriesByType("navigation").length`); reloaded != 1.0 {
		t.Errorf("%v navigations", reloaded)
	}
	testUIWidths(t, b)
	if path := os.Getenv(pictureVariable); path != "" {
		b.picture(t, path, 1280, false)
	}
	testUISecondUse(t, n, desk, b, link)
	testUIHostileText(t, n, b)
	testUICalls(t, n, b)
	b.blameless(t)

	// A server that goes is said to have gone, and one that comes is shown.
	n.stop(t)
	if log := n.server.Log(); !strings.Contains(log, "stopping") || strings.Contains(log, link[strings.Index(link, "#")+1:]) {
		t.Error("the server's log has the code of a link, or is not the log")
	}
	b.await(t, "a banner", `[document.getElementById("banner").innerText.includes("No connection to the server since"), document.getElementById("banner").innerText]`)
	n.serveOnTerminal(t)
	b.await(t, "the next server wants a link of its own", `[document.getElementById("banner").innerText.includes("cleat ui"), document.getElementById("banner").innerText]`)
	b.open(t, n.link(t))
	b.await(t, "it is shown", `[/ready$/.test(document.getElementById("state").innerText), document.body.innerText]`)
}

// serveOnTerminal is serve with a terminal of 100 columns for the server, and looks
// at what the terminal was sent.
func (n *node) serveOnTerminal(t *testing.T) {
	t.Helper()
	n.booted = time.Now()
	n.server = n.Start(t, "terminal", "env", "TERM=xterm", "script", "-qefc", "stty rows 30 cols 100; exec cleat server", "/dev/null")
	n.awaitReady(t)
	lab.Eventually(t, podPatience, "the boot view has ended", func() error {
		if log := n.server.Log(); !strings.Contains(log, "units were ready after ") {
			return errors.New(log)
		}
		return nil
	})
	log := n.server.Log()
	for _, want := range []string{"booting for ", "> apiserver", "- scheduler", "waits for apiserver", "\x1b[36m"} {
		if !strings.Contains(log, want) {
			t.Errorf("the terminal was not sent %q", want)
		}
	}
	// A line of the log begins where the terminal's line does, and ends it.
	escapes := regexp.MustCompile("\x1b\\[[0-9;]*[A-Za-z]")
	torn := regexp.MustCompile(`.\d\d:\d\d:\d\d\.\d{3} (DBG|INF|WRN|ERR) |^\d\d:\d\d:\d\d\.\d{3} .*(booting for|> apiserver)`)
	for line := range strings.Lines(log) {
		if text := escapes.ReplaceAllString(strings.Trim(line, "\r\n"), ""); torn.MatchString(text) {
			t.Errorf("a torn line: %q", line)
		}
	}
}

// link has the server print a link.
func (n *node) link(t *testing.T) string {
	t.Helper()
	link := strings.TrimSpace(n.Must(t, "cleat", "ui"))
	if !regexp.MustCompile(`^https://10\.99\.0\.1:6443/v1-cleat/ui/#[A-Za-z0-9_-]{43}$`).MatchString(link) {
		t.Fatalf("cleat ui printed %q", link)
	}
	return link
}

// awaitLink returns a link as soon as the port behind it is open.
func (n *node) awaitLink(t *testing.T) string {
	t.Helper()
	lab.Eventually(t, bootPatience, "the supervisor answers", func() error {
		_, err := n.Run("curl", "-sSk", "--max-time", "5", "https://10.99.0.1:6443/ping")
		return err
	})
	return n.link(t)
}

// testUIWidths wants no width to make the page itself scroll sideways.
func testUIWidths(t *testing.T, b *browser) {
	for _, width := range []int{360, 800, 1280} {
		for _, scheme := range []string{"dark", "light"} {
			b.call(t, "Emulation.setEmulatedMedia", params{"features": []params{{"name": "prefers-color-scheme", "value": scheme}}})
			b.resize(t, width, 900)
			b.await(t, fmt.Sprintf("%s at %d px", scheme, width), `[document.documentElement.scrollWidth <= innerWidth && innerWidth === `+fmt.Sprint(width)+
				`, document.documentElement.scrollWidth + " of " + innerWidth]`)
			colour := fmt.Sprint(b.eval(t, `getComputedStyle(document.body).backgroundColor`))
			if dark := colour == "rgb(15, 19, 24)"; dark != (scheme == "dark") {
				t.Errorf("%s: the background is %s", scheme, colour)
			}
			if dir := os.Getenv(shotsVariable); dir != "" {
				b.picture(t, fmt.Sprintf("%s/%s-%d.png", dir, scheme, width), width, true)
			}
		}
	}
}

// testUISecondUse opens the link again, as somebody who found it would.
func testUISecondUse(t *testing.T, n *node, desk *lab.Machine, b *browser, link string) {
	t.Helper()
	other := b.stranger(t)
	other.open(t, link)
	other.await(t, "the link is refused", `[document.getElementById("banner").innerText.includes("was used before") && document.getElementById("main").hidden,
		document.body.innerText]`)
	code := link[strings.Index(link, "#")+1:]
	for _, c := range []struct{ path, body, want string }{
		{"session", code, "403"}, {"session", "", "403"}, {"session", strings.Repeat("x", 129), "413"}, {"stream", "", "401"},
	} {
		args := []string{"curl", "-sk", "--max-time", "20", "-o", "/dev/null", "-w", "%{http_code}"}
		if c.path == "session" {
			args = append(args, "--data-binary", c.body)
		}
		if got, err := desk.Run(append(args, "https://10.99.0.1:6443/v1-cleat/ui/"+c.path)...); got != c.want {
			t.Errorf("%+v: %s %v", c, got, err)
		}
	}
	// The administrator's certificate is enough.
	out, err := n.Run("sh", "-c", `set -e
kubectl config view --raw -o jsonpath='{.users[0].user.client-certificate-data}' | base64 -d >/run/admin.crt
kubectl config view --raw -o jsonpath='{.users[0].user.client-key-data}' | base64 -d >/run/admin.key
curl -sNk --max-time 60 --cert /run/admin.crt --key /run/admin.key https://10.99.0.1:6443/v1-cleat/ui/stream | sed '/"node":"n1"/q'
rm /run/admin.crt /run/admin.key`)
	if err != nil || !strings.Contains(out, `data: {"status":`) || !strings.Contains(out, `"node":"n1"`) {
		t.Errorf("with the administrator's certificate: %.300s %v", out, err)
	}
}

// testUIHostileText wants a file that appears to be on the page without a reload,
// and all that it says as the text it is.
func testUIHostileText(t *testing.T, n *node, b *browser) {
	t.Helper()
	n.WriteFile(t, "/var/lib/cleat/server/manifests/"+hostileName+".yaml", "apiVersion: v1\nkind: '"+hostileName+"'\nmetadata: {name: x}\n")
	b.await(t, "the addon is shown", `[[...document.querySelectorAll("#addons tr")].some(r => r.innerText.includes("failed") && r.innerText.includes("`+hostileName+`")),
		document.getElementById("addons").innerText]`)
	if images := b.eval(t, `document.querySelectorAll("img, script:not([src])").length`); images != 0.0 {
		t.Errorf("%v elements were made of text", images)
	}
}

// testUICalls asks a plugin, and wants its count to change on the page.
func testUICalls(t *testing.T, n *node, b *browser) {
	t.Helper()
	const calls = `+[...document.querySelectorAll("#plugins tbody tr")].find(r => r.cells[0].innerText === "deployer-manifest").cells[4].innerText`
	before, ok := b.eval(t, calls).(float64)
	if !ok || before == 0 {
		t.Fatalf("deployer-manifest was called %v times", before)
	}
	n.WriteFile(t, "/var/lib/cleat/server/manifests/seen.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: seen, namespace: default}\n")
	b.await(t, "one more call", fmt.Sprintf("[%s > %v, document.getElementById('plugins').innerText]", calls, before))
}

// picture writes a screenshot of what a window of that width shows; whole is all
// of the page, however long.
func (b *browser) picture(t *testing.T, path string, width int, whole bool) {
	t.Helper()
	height := 1180
	if tall, ok := b.eval(t, `document.documentElement.scrollHeight`).(float64); ok && whole {
		height = int(tall)
	}
	b.resize(t, width, height)
	data, ok := b.call(t, "Page.captureScreenshot", params{"format": "png"})["data"].(string)
	png, err := base64.StdEncoding.DecodeString(data)
	if !ok || err != nil {
		t.Fatalf("no picture: %v", err)
	}
	if err := os.WriteFile(path, png, 0o644); err != nil {
		t.Fatal(err)
	}
}
