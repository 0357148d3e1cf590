package statuspage

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"io"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/cleat-dev/cleat/core/internal/serverstatus"
)

func page(o Options) *Page {
	if o.Status == nil {
		o.Status = func() serverstatus.Status { return serverstatus.Status{Node: "n1", ObservedAt: time.Now()} }
	}
	if o.Events == nil {
		o.Events = func(context.Context) ([]serverstatus.Event, error) { return nil, nil }
	}
	return New(o)
}

// post sends a code and returns the answer.
func post(p *Page, code string, header ...string) *http.Response {
	r := httptest.NewRequest(http.MethodPost, PathSession, strings.NewReader(code))
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	w := httptest.NewRecorder()
	p.ServeSession(w, r)
	return w.Result()
}

func codeOf(t *testing.T, link string) string {
	t.Helper()
	path, code, ok := strings.Cut(link, "#")
	if path != Prefix || !ok || len(code) != 43 {
		t.Fatalf("link %q", link)
	}
	return code
}

// session is what a browser has after it posted a code.
type session struct {
	cookie *http.Cookie
	key    string
}

func sessionOf(t *testing.T, res *http.Response) session {
	t.Helper()
	var said struct{ Key string }
	if err := json.NewDecoder(res.Body).Decode(&said); err != nil || res.StatusCode != http.StatusOK || len(res.Cookies()) != 1 || said.Key == "" {
		t.Fatalf("%s %v %q %v", res.Status, res.Cookies(), said.Key, err)
	}
	return session{res.Cookies()[0], said.Key}
}

func admits(p *Page, s session, header ...string) bool {
	r := httptest.NewRequest(http.MethodGet, PathStream, nil)
	r.AddCookie(s.cookie)
	r.Header.Set(keyHeader, s.key)
	if len(header) == 2 {
		r.Header.Set(header[0], header[1])
	}
	return p.Admits(r)
}

func TestLinkIsGoodOnce(t *testing.T) {
	now := time.Now()
	p := page(Options{Now: func() time.Time { return now }})
	code := codeOf(t, p.Link())
	for _, wrong := range []string{"", "x", code[:42], code + "x", strings.ToUpper(code)} {
		if res := post(p, wrong); res.StatusCode != http.StatusForbidden || len(res.Cookies()) > 0 {
			t.Errorf("code %q: %s %v", wrong, res.Status, res.Cookies())
		}
	}
	if res := post(p, strings.Repeat("x", MaxSessionBody+1)); res.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a long code: %s", res.Status)
	}
	if res := post(p, code, "Sec-Fetch-Site", "cross-site"); res.StatusCode != http.StatusForbidden {
		t.Errorf("from another site: %s", res.Status)
	}
	res := post(p, code, "Sec-Fetch-Site", "same-origin")
	s := sessionOf(t, res)
	c := s.cookie
	if !c.HttpOnly || !c.Secure || c.SameSite != http.SameSiteStrictMode || c.Path != Prefix || c.Domain != "" || c.MaxAge != 8*3600 {
		t.Errorf("cookie %+v", c)
	}
	if again := post(p, code); again.StatusCode != http.StatusForbidden || len(again.Cookies()) > 0 {
		t.Errorf("a second time: %s", again.Status)
	}
	if !admits(p, s) || !admits(p, s, "Sec-Fetch-Site", "same-origin") {
		t.Error("the session may not watch")
	}
	if admits(p, s, "Sec-Fetch-Site", "cross-site") || admits(p, s, "Sec-Fetch-Site", "same-site") {
		t.Error("another site may watch with it")
	}
	for what, half := range map[string]session{
		"a code": {&http.Cookie{Name: c.Name, Value: code}, ""}, "nothing": {&http.Cookie{Name: c.Name}, ""}, "the cookie": {c, ""},
		"the key": {&http.Cookie{Name: c.Name, Value: "x"}, s.key}, "another cookie": {&http.Cookie{Name: "x", Value: c.Value}, s.key},
	} {
		if admits(p, half) {
			t.Errorf("%s is a session", what)
		}
	}
	if len(c.Value) < 20 || len(s.key) < 20 {
		t.Errorf("halves %q and %q", c.Value, s.key)
	}
	if admits(page(Options{}), s) {
		t.Error("another server takes the cookie")
	}
	now = now.Add(8*time.Hour - time.Second)
	if !admits(p, s) {
		t.Error("the session ended early")
	}
	if now = now.Add(time.Second); admits(p, s) {
		t.Error("the session does not end")
	}
}

func TestLinkEnds(t *testing.T) {
	now := time.Now()
	p := page(Options{Now: func() time.Time { return now }})
	early, late := codeOf(t, p.Link()), codeOf(t, p.Link())
	now = now.Add(5*time.Minute - time.Second)
	if res := post(p, early); res.StatusCode != http.StatusOK {
		t.Errorf("a second before: %s", res.Status)
	}
	now = now.Add(time.Second)
	if res := post(p, late); res.StatusCode != http.StatusForbidden {
		t.Errorf("after five minutes: %s", res.Status)
	}
}

// What is kept is bounded, and holds no secret.
func TestTicketsAreBounded(t *testing.T) {
	p := page(Options{})
	first := codeOf(t, p.Link())
	var last string
	for range maxCodes {
		last = codeOf(t, p.Link())
	}
	if len(p.codes.list) != maxCodes || post(p, first).StatusCode != http.StatusForbidden || post(p, last).StatusCode != http.StatusOK {
		t.Errorf("%d codes are kept, want %d without the first", len(p.codes.list), maxCodes)
	}
	var sessions []session
	for range maxSessions + 1 {
		sessions = append(sessions, sessionOf(t, post(p, codeOf(t, p.Link()))))
	}
	if len(p.sessions.list) != maxSessions || admits(p, sessions[0]) || !admits(p, sessions[maxSessions]) {
		t.Errorf("%d sessions are kept, want %d without the first", len(p.sessions.list), maxSessions)
	}
	for i, k := range p.sessions.list {
		if s := sessions[i+1]; k.digest != sha256.Sum256([]byte(s.cookie.Value+s.key)) {
			t.Errorf("session %d is not kept as a digest", i)
		}
	}
}

// Each file has a type and a policy under which nothing foreign runs, and all of
// them fit a slow line.
func TestFiles(t *testing.T) {
	p := page(Options{})
	var total int64
	err := fs.WalkDir(files, "web", func(_ string, d fs.DirEntry, err error) error {
		if info, e := d.Info(); err == nil && e == nil && !d.IsDir() {
			total += info.Size()
		}
		return err
	})
	if err != nil || total == 0 || total > 40<<10 {
		t.Errorf("the files have %d bytes: %v", total, err)
	}
	for path, kind := range map[string]string{Prefix: "text/html", PathScript: "text/javascript", PathStyle: "text/css"} {
		w := httptest.NewRecorder()
		p.ServeFile(w, httptest.NewRequest(http.MethodGet, path, nil))
		h := w.Result().Header
		if w.Code != http.StatusOK || !strings.HasPrefix(h.Get("Content-Type"), kind) {
			t.Errorf("%s: %d %s", path, w.Code, h.Get("Content-Type"))
		}
		for name, want := range map[string]string{
			"Content-Security-Policy": "default-src 'none'; ", "X-Frame-Options": "DENY", "X-Content-Type-Options": "nosniff",
			"Referrer-Policy": "no-referrer", "Cache-Control": "no-store",
		} {
			if !strings.HasPrefix(h.Get(name), want) {
				t.Errorf("%s: %s is %q, want %q", path, name, h.Get(name), want)
			}
		}
		if policy := h.Get("Content-Security-Policy"); strings.Contains(policy, "unsafe") || strings.Contains(policy, "*") {
			t.Errorf("%s: policy %q", path, policy)
		}
		// The browser enforces both too; here it is said which line is at fault.
		for _, bad := range []string{"innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", " style=\"", "onclick"} {
			if strings.Contains(w.Body.String(), bad) {
				t.Errorf("%s has %s", path, bad)
			}
		}
	}
}

// stream reads messages of a stream as they come.
type stream struct {
	cancel   context.CancelFunc
	messages chan message
	status   chan int
}

// recorder is a ResponseWriter into a pipe that takes deadlines.
type recorder struct {
	io.Writer
	header http.Header
	status chan int
}

func (r *recorder) Header() http.Header            { return r.header }
func (r *recorder) WriteHeader(status int)         { r.status <- status }
func (r *recorder) Flush()                         {}
func (*recorder) SetReadDeadline(time.Time) error  { return nil }
func (*recorder) SetWriteDeadline(time.Time) error { return nil }

// watch opens a stream; its channel of messages is closed when the stream ends.
func watch(t *testing.T, p *Page) *stream {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	read, write := io.Pipe()
	s := &stream{cancel, make(chan message, 100), make(chan int, 1)}
	go func() {
		p.ServeStream(&recorder{write, http.Header{}, s.status}, httptest.NewRequest(http.MethodGet, PathStream, nil).WithContext(ctx))
		write.Close()
	}()
	go func() {
		defer close(s.messages)
		text := ""
		for part := make([]byte, 64<<10); ; {
			n, err := read.Read(part)
			if err != nil {
				return
			}
			text += string(part[:n])
			for {
				block, rest, ok := strings.Cut(text, "\n\n")
				if !ok {
					break
				}
				text = rest
				if data, ok := strings.CutPrefix(block, "data: "); ok {
					var m message
					if err := json.Unmarshal([]byte(data), &m); err != nil {
						t.Errorf("%q: %v", data, err)
					}
					s.messages <- m
				}
			}
		}
	}()
	return s
}

// TestStream: the server is looked at once for all who watch, only while somebody
// does, and they are told only what is new.
func TestStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int32
		var state atomic.Value
		state.Store(serverstatus.StateStarting)
		p := page(Options{
			Status: func() serverstatus.Status {
				looks.Add(1)
				now, _ := state.Load().(serverstatus.State)
				return serverstatus.Status{Node: "n1", State: now, ObservedAt: time.Now()}
			},
			Events: func(context.Context) ([]serverstatus.Event, error) {
				return []serverstatus.Event{{Reason: "<b>"}}, nil
			},
		})
		a, b := watch(t, p), watch(t, p)
		time.Sleep(1500 * time.Millisecond)
		first := <-a.messages
		if first.Status.Node != "n1" || first.Status.ObservedAt.IsZero() {
			t.Errorf("first message %+v", first)
		}
		for len(a.messages) > 0 { // the events may come with the second
			first = <-a.messages
		}
		if len(first.Events) != 1 || first.Events[0].Reason != "<b>" {
			t.Errorf("events %+v", first.Events)
		}
		for len(b.messages) > 0 {
			<-b.messages
		}
		if looks.Load() != 2 {
			t.Errorf("two watchers had the server looked at %d times in 1.5 s", looks.Load())
		}
		time.Sleep(10 * time.Second)
		if len(a.messages)+len(b.messages) != 0 {
			t.Error("told again what has not changed")
		}
		state.Store(serverstatus.StateReady)
		time.Sleep(time.Second)
		if m := <-a.messages; m.Status.State != serverstatus.StateReady {
			t.Errorf("told %+v", m)
		}
		if m := <-b.messages; m.Status.State != serverstatus.StateReady {
			t.Errorf("told %+v", m)
		}
		a.cancel()
		late := watch(t, p)
		synctest.Wait()
		if m := <-late.messages; m.Status.State != serverstatus.StateReady {
			t.Errorf("who comes late is told %+v", m)
		}
		b.cancel()
		late.cancel()
		synctest.Wait()
		before := looks.Load()
		time.Sleep(time.Minute)
		if looks.Load() != before {
			t.Errorf("nobody watches, and the server was looked at %d times", looks.Load()-before)
		}
		again := watch(t, p)
		synctest.Wait()
		if m := <-again.messages; m.Status.Node != "n1" {
			t.Errorf("who comes after all had left is told %+v", m)
		}
		p.Close()
		synctest.Wait()
		if _, open := <-again.messages; open {
			t.Error("a closed page goes on")
		}
		if status := <-watch(t, p).status; status != http.StatusServiceUnavailable {
			t.Errorf("a closed page answers %d", status)
		}
	})
}

func TestStreamsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := page(Options{})
		var all []*stream
		for range maxStreams {
			all = append(all, watch(t, p))
		}
		synctest.Wait()
		if status := <-watch(t, p).status; status != http.StatusServiceUnavailable {
			t.Errorf("one more than %d: %d", maxStreams, status)
		}
		all[3].cancel()
		synctest.Wait()
		if m := <-watch(t, p).messages; m.Status.Node != "n1" {
			t.Errorf("after one has left: %+v", m)
		}
		begun := time.Now()
		for range all[5].messages {
		}
		if took := time.Since(begun); took != streamFor {
			t.Errorf("a stream ended after %s", took)
		}
		synctest.Wait()
		if len(p.watchers) != 0 {
			t.Errorf("%d watchers are left", len(p.watchers))
		}
	})
}

func TestStreamRefusesOtherSites(t *testing.T) {
	r := httptest.NewRequest(http.MethodGet, PathStream, nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	w := httptest.NewRecorder()
	page(Options{}).ServeStream(w, r)
	if w.Code != http.StatusForbidden {
		t.Errorf("%d", w.Code)
	}
}
