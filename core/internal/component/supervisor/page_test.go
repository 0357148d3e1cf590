package supervisor

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
)

// showing gives h a page whose status differs each time it is looked at.
func showing(h *harness) {
	var looks atomic.Int64
	h.Page.StreamFor = time.Hour
	h.Page.Status = func() serverstatus.Status {
		return serverstatus.Status{Node: fmt.Sprintf("look-%d.", looks.Add(1))}
	}
}

// await reads a stream until a line has text.
func await(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the stream ended before %q: %v", text, lines.Err())
}

// keyOf is the half of a session that the page keeps.
func keyOf(t *testing.T, res *http.Response) string {
	t.Helper()
	var said struct{ Key string }
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil {
		t.Fatal(err)
	}
	return said.Key
}

// A visitor with a link watches for longer than any other request may take, and
// does not hold up the stop.
func TestPageStream(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		h := start(t, func(l *limits) { l.body, l.answer = 1500*time.Millisecond, 1500*time.Millisecond })
		showing(h)
		client := h.over(protocol, nil)
		jar, err := cookiejar.New(nil)
		if err != nil {
			t.Fatal(err)
		}
		client.Jar = jar
		key := ""
		get := func() *http.Response {
			t.Helper()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+statuspage.PathStream, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Cleat-Page-Key", key)
			res, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { res.Body.Close() })
			return res
		}
		if res := get(); res.StatusCode != http.StatusUnauthorized {
			t.Errorf("%s without a session: %s", protocol, res.Status)
		}
		_, code, _ := strings.Cut(h.Page.Link(), "#")
		signIn := func() int {
			t.Helper()
			res, err := client.Post(h.url+statuspage.PathSession, "text/plain", strings.NewReader(code))
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if res.StatusCode == http.StatusOK {
				key = keyOf(t, res)
			}
			return res.StatusCode
		}
		if first, second := signIn(), signIn(); first != http.StatusOK || second != http.StatusForbidden {
			t.Errorf("%s: signing in gave %d, then %d", protocol, first, second)
		}
		res := get()
		if res.StatusCode != http.StatusOK || res.Proto != protocol || res.Header.Get("Content-Type") != "text/event-stream" {
			t.Fatalf("%s: %s %s %v", protocol, res.Proto, res.Status, res.Header)
		}
		lines := bufio.NewScanner(res.Body)
		for i := 1; i <= 3; i++ { // a second between them
			await(t, lines, fmt.Sprintf(`"node":"look-%d."`, i))
		}
		if err := h.stop(); err != nil {
			t.Error(err)
		}
		for lines.Scan() {
		}
		if err := lines.Err(); err != nil {
			t.Errorf("%s: the stream held up the stop until it was cut: %v", protocol, err)
		}
		if text := h.log.String(); strings.Contains(text, code) || strings.Contains(text, key) || strings.Contains(text, jar.Cookies(res.Request.URL)[0].Value) {
			t.Errorf("%s: a secret is in the log", protocol)
		}
	}
}

// A session is for the page alone.
func TestPageSessionOpensNothingElse(t *testing.T) {
	h := start(t)
	_, code, _ := strings.Cut(h.Page.Link(), "#")
	r, err := http.NewRequestWithContext(context.Background(), http.MethodPost, h.url+statuspage.PathSession, strings.NewReader(code))
	if err != nil {
		t.Fatal(err)
	}
	res, err := h.client(nil).Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	session := http.Header{"Cookie": {res.Cookies()[0].Name + "=" + res.Cookies()[0].Value}, "Cleat-Page-Key": {keyOf(t, res)}}
	for path, row := range rows() {
		if row.method != http.MethodGet || row.public {
			continue
		}
		want := http.StatusUnauthorized
		if row.page {
			want = http.StatusOK
		}
		if status, body := h.do(request{path: path, header: session}); status != want {
			t.Errorf("%s with a session: %d %s, want %d", path, status, body, want)
		}
	}
}
