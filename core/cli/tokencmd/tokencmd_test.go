package tokencmd

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/kubeconfig"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

const (
	servers = "servers-password"
	next    = "the-next-password"
)

// fakeServer is a supervisor with an API server that keeps Secrets.
type fakeServer struct {
	*httptest.Server
	t       *testing.T
	ca      []byte
	mu      sync.Mutex
	secrets map[string]corev1.Secret
	said    []string // of all requests: method, path, credentials
	rotated string
	advice  string
	hook    func(w http.ResponseWriter, r *http.Request) bool
}

func newFakeServer(t *testing.T) *fakeServer {
	t.Helper()
	s := &fakeServer{t: t, secrets: map[string]corev1.Secret{}}
	s.Server = httptest.NewTLSServer(s)
	t.Cleanup(s.Close)
	s.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw})
	return s
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	user, password, ok := r.BasicAuth()
	if ok {
		user += ":" + password
	}
	s.said = append(s.said, strings.TrimSpace(r.Method+" "+r.URL.Path+" "+user))
	if s.hook != nil && s.hook(w, r) {
		return
	}
	const secrets = "/api/v1/namespaces/kube-system/secrets"
	answer := func(v any) {
		w.Header().Set("Content-Type", "application/json")
		if err := json.NewEncoder(w).Encode(v); err != nil {
			s.t.Error(err)
		}
	}
	refuse := func(code int, reason metav1.StatusReason) {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		answer(metav1.Status{Status: metav1.StatusFailure, Reason: reason, Code: int32(code)})
	}
	switch body, err := io.ReadAll(r.Body); {
	case err != nil:
		s.t.Error(err)
	case r.URL.Path == joinapi.PathCACerts:
		_, _ = w.Write(s.ca)
	case r.URL.Path == joinapi.PathToken && user != "server:"+servers:
		joinapi.WriteStatus(w, http.StatusUnauthorized, 0, "the join token is missing or wrong")
	case r.URL.Path == joinapi.PathToken:
		tok, err := joinapi.ParseRotation(body)
		if err != nil {
			joinapi.WriteStatus(w, http.StatusBadRequest, 0, err.Error())
			return
		}
		s.rotated = tok.Password
		_, _ = io.WriteString(w, s.advice)
	case strings.HasSuffix(r.URL.Path, "/endpointslices"):
		port := int32(6443)
		answer(discoveryv1.EndpointSliceList{Items: []discoveryv1.EndpointSlice{{
			Endpoints: []discoveryv1.Endpoint{{Addresses: []string{"fd00::1"}}}, Ports: []discoveryv1.EndpointPort{{Port: &port}},
		}}})
	case r.URL.Path == secrets && r.Method == http.MethodPost:
		decoded, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil) // the client speaks protobuf
		made, ok := decoded.(*corev1.Secret)
		if err != nil || !ok {
			s.t.Errorf("%q: %v", body, err)
			return
		}
		if _, ok := s.secrets[made.Name]; ok {
			refuse(http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
		s.secrets[made.Name] = *made
		answer(made)
	case r.URL.Path == secrets:
		if got := r.URL.Query().Get("fieldSelector"); got != "type=bootstrap.kubernetes.io/token" {
			s.t.Errorf("list of %q", got)
		}
		var list corev1.SecretList
		for _, v := range s.secrets {
			list.Items = append(list.Items, v)
		}
		answer(list)
	case r.Method == http.MethodDelete:
		name := strings.TrimPrefix(r.URL.Path, secrets+"/")
		if _, ok := s.secrets[name]; !ok {
			refuse(http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		delete(s.secrets, name)
		answer(metav1.Status{Status: metav1.StatusSuccess})
	default:
		s.t.Errorf("unexpected %s %s", r.Method, r.URL)
	}
}

// user is somebody at a terminal.
type user struct {
	t      *testing.T
	server *fakeServer
	dir    string
	env    map[string]string
	stdin  string
	now    time.Time
	hidden []string
}

func newUser(t *testing.T, s *fakeServer) *user {
	t.Helper()
	dir := t.TempDir()
	key, err := pki.NewKey()
	if err != nil {
		t.Fatal(err)
	}
	self, err := pki.NewAuthority("admin", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	signer, err := pki.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := self.Sign(signer.Public(), pki.Leaf{CommonName: "admin", Client: true}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	text, err := kubeconfig.Config{Server: s.URL, CA: s.ca, Cert: cert, Key: key}.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	u := &user{t: t, server: s, dir: dir, env: map[string]string{}, now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	u.write("cleat.yaml", string(text))
	return u
}

func (u *user) write(name, text string) string {
	u.t.Helper()
	path := filepath.Join(u.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		u.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		u.t.Fatal(err)
	}
	return path
}

func (u *user) run(args ...string) (stdout, stderr string, err error) {
	cmd := New(Deps{
		Node: func() *config.Config {
			return &config.Config{Options: config.Options{DataDir: u.dir, WriteKubeconfig: filepath.Join(u.dir, "cleat.yaml")}}
		},
		Getenv: func(name string) string { return u.env[name] },
		Now:    func() time.Time { return u.now },
		Hide:   func(command string) { u.hidden = append(u.hidden, command) },
	})
	var out, errOut bytes.Buffer
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(u.stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&errOut)
	cmd.SilenceErrors, cmd.SilenceUsage = true, true
	err = cmd.ExecuteContext(u.t.Context())
	return out.String(), errOut.String(), err
}

func (u *user) must(args ...string) string {
	u.t.Helper()
	out, _, err := u.run(args...)
	if err != nil {
		u.t.Fatalf("%v: %v", args, err)
	}
	return strings.TrimSpace(out)
}

func (u *user) refused(want string, args ...string) {
	u.t.Helper()
	out, errOut, err := u.run(args...)
	if err == nil || !strings.Contains(err.Error(), want) {
		u.t.Errorf("%v: %v, want %q", args, err, want)
	}
	if out != "" {
		u.t.Errorf("%v printed %q", args, out)
	}
	for _, secret := range []string{servers, next, "0123456789abcdef"} {
		if err != nil && strings.Contains(err.Error()+errOut, secret) {
			u.t.Errorf("%v shows a secret: %v", args, err)
		}
	}
}

func TestBootstrapTokens(t *testing.T) {
	s := newFakeServer(t)
	u := newUser(t, s)
	made, err := token.Parse(u.must("create", "--description", "for the\track", "--ttl", "90m"))
	if err != nil || !made.Bootstrap || made.CheckCA(s.ca) != nil || made.CAHash == "" {
		t.Fatalf("%v, %v", made, err)
	}
	stored := s.secrets["bootstrap-token-"+made.Username]
	if string(stored.Data["token-secret"]) != made.Password || string(stored.Data["expiration"]) != "2030-01-02T04:34:05Z" ||
		string(stored.Data["usage-bootstrap-authentication"]) != "true" || string(stored.Data["auth-extra-groups"]) != defaultGroup {
		t.Errorf("stored %v", stored.Data)
	}
	u.stdin = "K10::aaaaaa.0123456789abcdef\n"
	given := token.Token{CAHash: made.CAHash, Username: "aaaaaa", Password: "0123456789abcdef", Bootstrap: true}
	if got := u.must("create", "-", "--ttl", "0", "--usages", "authentication", "--groups", ""); got != given.Format() {
		t.Errorf("the given token became %s", got)
	}
	u.now = u.now.Add(90 * time.Minute)
	u.must("create", "cccccc.0123456789abcdef")
	list := u.must("list")
	for _, want := range []string{
		"ID ", "aaaaaa   forever", "cccccc   24h0m0s", made.Username + "   expired", "2030-01-02T04:34:05Z", "for the rack", "authentication   -", "signing,authentication",
	} {
		if !strings.Contains(list, want) {
			t.Errorf("the list lacks %q:\n%s", want, list)
		}
	}
	inJSON := u.must("list", "-o", "json")
	var parsed []listed
	if err := json.Unmarshal([]byte(inJSON), &parsed); err != nil || len(parsed) != 3 {
		t.Errorf("%s, %v", inJSON, err)
	}
	for _, l := range parsed {
		if (l.Expires == nil) != (l.ID == "aaaaaa") || l.Expired != (l.ID == made.Username) {
			t.Errorf("%+v", l)
		}
	}
	for _, text := range []string{list, inJSON} {
		if strings.Contains(text, "0123456789abcdef") || strings.Contains(text, made.Password) {
			t.Errorf("a list shows a secret:\n%s", text)
		}
	}
	u.refused("already", "create", "aaaaaa.0123456789abcdef")
	if got := u.must("delete", made.Username, "K10::aaaaaa.0123456789abcdef", "cccccc.0123456789abcdef"); strings.Count(got, "deleted") != 3 || len(s.secrets) != 0 {
		t.Errorf("%s; left %v", got, s.secrets)
	}
	_, _, err = u.run("delete", "aaaaaa", "bbbbbb")
	if err == nil || !strings.Contains(err.Error(), "aaaaaa") || !strings.Contains(err.Error(), "bbbbbb") {
		t.Errorf("%v", err)
	}
	if got := u.must("list", "-o", "json"); got != "[]" {
		t.Errorf("an empty list is %s", got)
	}
	if len(u.hidden) == 0 || u.hidden[0] != "token create" {
		t.Errorf("hidden: %v", u.hidden)
	}
}

func TestJoinCommand(t *testing.T) {
	s := newFakeServer(t)
	u := newUser(t, s)
	got := u.must("create", "--print-join-command")
	text, ok := strings.CutPrefix(got, "CLEAT_TOKEN=")
	text, command, _ := strings.Cut(text, " ")
	if tok, err := token.Parse(text); !ok || err != nil || !tok.Bootstrap || command != "cleat agent --server https://[fd00::1]:6443" {
		t.Errorf("%s", got)
	}
}

func TestGenerate(t *testing.T) {
	u := newUser(t, newFakeServer(t))
	tok, err := token.Parse(u.must("generate"))
	if err != nil || !tok.Bootstrap || tok.CAHash != "" || len(u.server.said) != 0 {
		t.Errorf("%v, %v, asked %v", tok, err, u.server.said)
	}
}

func TestRefusals(t *testing.T) {
	s := newFakeServer(t)
	u := newUser(t, s)
	u.refused("--ttl", "create", "--ttl", "-1h")
	u.refused("no bootstrap token", "create", "0123456789abcdef")
	u.refused("usages", "create", "--usages", "everything")
	u.refused("groups", "create", "--groups", "system:masters")
	u.refused("text or json", "list", "-o", "yaml")
	u.refused("six lower-case", "delete", "ABCDEF")
	u.stdin = " \n"
	u.refused("empty", "create", "-")
	u.stdin = strings.Repeat("x", maxInput+1)
	u.refused("more than", "create", "-")
	if len(s.said) != 0 {
		t.Errorf("the server was asked: %v", s.said)
	}
	u.refused("--kubeconfig", "list", "--kubeconfig", "/nonexistent")
	u.env["KUBECONFIG"] = "/nonexistent"
	u.refused("--kubeconfig", "create")
	u.env["KUBECONFIG"] = filepath.Join(u.dir, "other.yaml") + ":" + filepath.Join(u.dir, "cleat.yaml")
	u.must("list")
	s.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == joinapi.PathCACerts {
			_, _ = io.WriteString(w, "hello")
		}
		return r.URL.Path == joinapi.PathCACerts
	}
	u.refused("certificates", "create")
	if len(s.secrets) != 0 {
		t.Errorf("a token was made that nobody was told of: %v", s.secrets)
	}
}

func TestRotate(t *testing.T) {
	s := newFakeServer(t)
	u := newUser(t, s)
	hash, err := token.HashCA(s.ca)
	if err != nil {
		t.Fatal(err)
	}
	full := token.Token{CAHash: hash, Username: "server", Password: servers}.Format()
	u.write("server/token", full+"\n")
	for name, args := range map[string][]string{
		"files":     {"rotate", "--token-file", u.write("old", servers), "--new-token-file", u.write("new", next+"\n")},
		"flags":     {"rotate", "--token", servers, "--new-token", next},
		"own token": {"rotate", "--new-token-file", u.write("new", next), "--server", s.URL + "/"},
	} {
		s.rotated, s.advice, s.said = "", "write it there too", nil
		out, errOut, err := u.run(args...)
		if err != nil || out != "" || s.rotated != next || !strings.Contains(errOut, "is rotated") || !strings.Contains(errOut, "write it there too") {
			t.Errorf("%s: %q, %q, %v; rotated to %q", name, out, errOut, err, s.rotated)
		}
		if strings.Join(s.said, ", ") != "GET /cacerts, PUT /v1-cleat/token server:"+servers {
			t.Errorf("%s: asked %v", name, s.said)
		}
	}
	u.env = map[string]string{"CLEAT_TOKEN": full, "CLEAT_NEW_TOKEN_FILE": "-"}
	u.stdin, s.rotated = next, ""
	if u.must("rotate"); s.rotated != next {
		t.Errorf("by variables: rotated to %q", s.rotated)
	}
	u.env = map[string]string{}
	made, err := token.Parse(u.must("rotate"))
	if err != nil || made.Password != s.rotated || len(made.Password) != 32 || made.CAHash != hash || made.Username != token.UserServer {
		t.Errorf("made %v, %v", made, err)
	}
}

func TestRotateRefuses(t *testing.T) {
	s := newFakeServer(t)
	u := newUser(t, s)
	u.refused("run this as root on a server", "rotate")
	u.refused("give one", "rotate", "--token", servers, "--token-file", "x")
	u.refused("bootstrap token", "rotate", "--token", "abcdef.0123456789abcdef")
	u.refused("the token in force", "rotate", "--token", "K10x")
	u.refused("new token", "rotate", "--token", servers, "--new-token", "K10x")
	u.refused("https://HOST:6443", "rotate", "--token", servers, "--server", "http://h:1")
	if len(s.said) != 0 {
		t.Errorf("the server was asked: %v", s.said)
	}
	u.refused("another cluster's", "rotate", "--token", "K10"+strings.Repeat("0", 64)+"::server:"+servers)
	if strings.Contains(strings.Join(s.said, " "), servers) {
		t.Errorf("the secret was sent to another cluster: %v", s.said)
	}
	u.refused("missing or wrong", "rotate", "--token", "wrong")
	elsewhere := 0
	other := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	t.Cleanup(other.Close)
	s.hook = func(w http.ResponseWriter, r *http.Request) bool {
		if r.URL.Path == joinapi.PathToken {
			http.Redirect(w, r, other.URL, http.StatusTemporaryRedirect)
		}
		return r.URL.Path == joinapi.PathToken
	}
	u.refused("307", "rotate", "--token", servers)
	if elsewhere != 0 {
		t.Error("it went where the server sent it")
	}
}
