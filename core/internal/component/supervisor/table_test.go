package supervisor

import (
	"bytes"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
	"github.com/cleat-dev/cleat/core/internal/token"
)

// What no log line and no answer may ever hold.
const (
	wrongPassword = "a-guess-at-the-cluster"
	wrongNode     = "fedcba9876543210"

	wrongBootstrap = "fedcba987654321z"
	newPassword    = "the-password-to-come"
	serviceToken   = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJzeXN0ZW0ifQ.c2ln"
)

// standing is what an identity amounts to at the own routes.
type standing int

const (
	unknown   standing = iota // 401
	barredNow                 // as unknown, but told why
	untold                    // with a bootstrap token while the API server is away: 503
	somebody                  // of the cluster, no node: 403
	admin                     // somebody who may watch
	other                     // another node: may read, may not sign
	member                    // may read and sign
	chief                     // a member who may rotate the token
)

// who is one identity of the table.
type who struct {
	name     string
	standing standing
	header   http.Header
	cert     *tls.Certificate
}

func basic(user, password string) http.Header {
	return http.Header{"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}}
}

func identities(h *harness) []who {
	t := h.t
	foreign, err := pki.NewIdentity(h.Now())
	if err != nil {
		t.Fatal(err)
	}
	caHash, err := token.HashCA(h.id.Server.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	own := h.clientCert(h.id.Client, "system:node:n1", "system:nodes")
	front := http.Header{"X-Remote-User": {"system:admin"}, "X-Remote-Group": {"system:masters", "system:nodes"}, "X-Forwarded-For": {"127.0.0.1"}}
	return []who{
		{"nobody", unknown, nil, nil},
		{"node token", member, basic("node", clusterPassword), nil},
		{"server token", chief, basic("server", clusterPassword), nil},
		{"agents' token", member, basic("node", agentPassword), nil},
		{"agents' token as a server's", unknown, basic("server", agentPassword), nil},
		{"bootstrap token", member, basic(bootstrapID, bootstrapSecret), nil},
		{"bootstrap token called server", member, basic("server", bootstrapSecret), nil},
		{"bootstrap token, wrong secret", unknown, basic(bootstrapID, wrongBootstrap), nil},
		{"bootstrap token that is none", unknown, basic("nobody", bootstrapSecret), nil},
		{"bootstrap token, unknown", unknown, basic("zzzzzz", bootstrapSecret), nil},
		{"bootstrap token, cut", unknown, basic(bootstrapID, bootstrapSecret[1:]), nil},
		{"bootstrap token as node", unknown, basic("node", bootstrapSecret), nil},
		{"bootstrap token, whole as password", unknown, basic("node", bootstrapID+"."+bootstrapSecret), nil},
		{"bootstrap token as bearer", unknown, http.Header{"Authorization": {"Bearer " + bootstrapID + "." + bootstrapSecret}}, nil},
		{"expired bootstrap token", barredNow, basic("longag", bootstrapSecret), nil},
		{"expired bootstrap token, wrong secret", unknown, basic("longag", wrongBootstrap), nil},
		{"bootstrap token before the API server", untold, basic("toosoo", bootstrapSecret), nil},
		{"expired bootstrap token, own certificate", barredNow, basic("longag", bootstrapSecret), own},
		{"wrong token", unknown, basic("node", wrongPassword), nil},
		{"empty token", unknown, basic("node", ""), nil},
		{"wrong user", unknown, basic("root", clusterPassword), nil},
		{"no user", unknown, basic("", clusterPassword), nil},
		{"right hash, wrong password", unknown, basic("node", "K10"+caHash+"::node:"+wrongPassword), nil},
		{"right hash, right password, whole token", unknown, basic("node", "K10"+caHash+"::node:"+clusterPassword), nil},
		{"half a header", unknown, http.Header{"Authorization": {"Basic"}}, nil},
		{"service account", unknown, http.Header{"Authorization": {"Bearer " + serviceToken}}, nil},
		{"cluster token as bearer", unknown, http.Header{"Authorization": {"Bearer " + clusterPassword}}, nil},
		{"front proxy header", unknown, front, nil},
		{"front proxy header, own certificate", member, front, own},
		{"admin", admin, nil, h.clientCert(h.id.Client, "system:admin", "system:masters")},
		{"kubelet of this node", member, nil, own},
		{"kubelet of another node", other, nil, h.clientCert(h.id.Client, "system:node:n2", "system:nodes")},
		{"kubelet without its group", somebody, nil, h.clientCert(h.id.Client, "system:node:n1")},
		{"kubelet of a node with a path as name", somebody, nil, h.clientCert(h.id.Client, "system:node:../n1", "system:nodes")},
		{"kube-proxy", somebody, nil, h.clientCert(h.id.Client, joinapi.UserKubeProxy)},
		{"controller", somebody, nil, h.clientCert(h.id.Client, "system:kube-controller-manager")},
		{"kubelet of another cluster", unknown, nil, h.clientCert(foreign.Client, "system:node:n1", "system:nodes")},
		{"front proxy certificate", unknown, front, h.clientCert(h.id.RequestHeader, "system:node:n1", "system:nodes")},
		{"signed by the servers' CA", unknown, nil, h.clientCert(h.id.Server, "system:node:n1", "system:nodes")},
		{"expired", unknown, nil, h.expired("system:node:n1", "system:nodes")},
		{"self-signed", unknown, nil, selfSigned(h)},
		{"wrong token, own certificate", unknown, basic("node", wrongPassword), own},
		{"right token, foreign certificate", member, basic("node", clusterPassword), h.clientCert(foreign.Client, "x")},
	}
}

// expired is the certificate of a node of this cluster that ended a minute ago.
func (h *harness) expired(user string, groups ...string) *tls.Certificate {
	h.t.Helper()
	signer, err := tls.X509KeyPair(h.id.Client.CertPEM(), h.id.Client.KeyPEM())
	if err != nil {
		h.t.Fatal(err)
	}
	pair := h.clientCert(h.id.Client, user, groups...)
	leaf := *pair.Leaf
	leaf.NotAfter = h.Now().Add(-time.Minute)
	leaf.NotBefore = leaf.NotAfter.Add(-time.Second)
	der, err := x509.CreateCertificate(rand.Reader, &leaf, signer.Leaf, leaf.PublicKey, signer.PrivateKey)
	if err != nil {
		h.t.Fatal(err)
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: pair.PrivateKey}
}

// selfSigned is an authority that vouches for itself as a node.
func selfSigned(h *harness) *tls.Certificate {
	h.t.Helper()
	a, err := pki.NewAuthority("system:node:n1", h.Now())
	if err != nil {
		h.t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(a.CertPEM(), a.KeyPEM())
	if err != nil {
		h.t.Fatal(err)
	}
	return &pair
}

// row is what the test knows of a path. It is written by hand, so that a route
// added to the table without a thought of who may use it fails.
type row struct {
	method string
	public bool
	signs  bool
	page   bool // the page for who administers, not for nodes
	rotate bool // for who holds the servers' token
}

func rows() map[string]row {
	return map[string]row{
		"/ping":                            {"GET", true, false, false, false},
		"/cacerts":                         {"GET", true, false, false, false},
		"/v1-cleat/server-ca.crt":          {"GET", false, false, false, false},
		"/v1-cleat/client-ca.crt":          {"GET", false, false, false, false},
		"/v1-cleat/config":                 {"GET", false, false, false, false},
		"/v1-cleat/plugins.lock":           {"GET", false, false, false, false},
		"/v1-cleat/plugin.wasm":            {"GET", false, false, false, false},
		"/v1-cleat/apiservers":             {"GET", false, false, false, false},
		"/v1-cleat/readyz":                 {"GET", true, false, false, false},
		"/v1-cleat/connect":                {"GET", false, false, false, false},
		"/v1-cleat/serving-kubelet.crt":    {"POST", false, true, false, false},
		"/v1-cleat/client-kubelet.crt":     {"POST", false, true, false, false},
		"/v1-cleat/client-kube-proxy.crt":  {"POST", false, true, false, false},
		"/v1-cleat/client-network.crt":     {"POST", false, true, false, false},
		"/v1-cleat/ui/":                    {"GET", true, false, true, false},
		"/v1-cleat/ui/page.js":             {"GET", true, false, true, false},
		"/v1-cleat/ui/page.css":            {"GET", true, false, true, false},
		"/v1-cleat/ui/session":             {"POST", true, false, true, false},
		"/v1-cleat/ui/stream":              {"GET", false, false, true, false},
		"/v1-cleat/token":                  {"PUT", false, false, false, true},
		"/v1-cleat/token/":                 {},
		"/v1-cleat/ui":                     {},
		"/v1-cleat/ui/page.html":           {},
		"/v1-cleat/ui/../config":           {},
		"/v1-cleat/":                       {},
		"/v1-cleat/nothing":                {},
		"/v1-cleat/config/":                {},
		"/v1-cleat//config":                {},
		"/v1-cleat/CONFIG":                 {},
		"/v1-cleat/../v1-cleat/config":     {},
		"/v1-cleat/%2e%2e/ping":            {},
		"/v1-cleat/..%2fapi":               {},
		"/v1-cleat/config%00":              {},
		"/v1-cleat/config;a=b":             {},
		"/v1-cleat/config%20":              {},
		"/v1-cleat/client-kubelet.crt/../": {},
	}
}

// elsewhere are paths that belong to the API server, whatever they look like.
func elsewhere() []string {
	return []string{
		"/", "/api/v1/namespaces", "/v1-cleat", "/v1-cleatX/config", "/V1-CLEAT/config", "//v1-cleat/config", "/./v1-cleat/config",
		"/x/../v1-cleat/config", "/x/%2e%2e/v1-cleat/config", "/%2fv1-cleat/config", "//ping", "/ping/", "/PING", "/ping/..", "/cacerts/", "/ping%2f", "/ping;x",
		"/api/v1/namespaces/v1-cleat/configmaps", "/" + strings.Repeat("a", 10_000),
	}
}

func want(r row, method string, s standing) int {
	is := func(m string) bool { return method == m || m == "GET" && method == "HEAD" }
	switch {
	case r.method != "" && !is(r.method):
		return http.StatusMethodNotAllowed
	case r.public && r.page && r.method == "POST":
		return http.StatusForbidden // nobody has a code
	case r.public:
		return http.StatusOK
	case s == unknown, s == barredNow:
		return http.StatusUnauthorized
	case s == untold:
		return http.StatusServiceUnavailable
	case s == somebody, s == admin, s == other && r.signs, s != chief && r.rotate:
		return http.StatusForbidden
	case r.method == "":
		return http.StatusNotFound
	}
	return http.StatusOK
}

// leaf is the identity's certificate.
func (w who) leaf(h *harness) *x509.Certificate {
	leaf, err := x509.ParseCertificate(w.cert.Certificate[0])
	if err != nil {
		h.t.Fatal(err)
	}
	return leaf
}

// wantTunnel is the answer to a member: the join token opens no tunnel, and the
// certificate says whose it is.
func wantTunnel(t *testing.T, h *harness, id who, header http.Header) int {
	if id.header.Get("Authorization") != "" {
		return http.StatusForbidden
	}
	if of, name := header.Get("Tunnel-Of"), id.leaf(h).Subject.CommonName; joinapi.NodeUser(of) != name {
		t.Errorf("%q has the tunnel of node %q, want that of %s", id.name, of, name)
	}
	return http.StatusOK
}

// wantWatching is the answer to who would watch: only the certificate counts.
func wantWatching(h *harness, id who) int {
	if id.standing == admin {
		return http.StatusOK
	}
	if id.cert == nil {
		return http.StatusUnauthorized
	}
	if _, err := id.leaf(h).Verify(x509.VerifyOptions{Roots: h.id.Client.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
		return http.StatusUnauthorized
	}
	return http.StatusForbidden
}

// Every path for every identity with every method, over both protocols.
func TestTable(t *testing.T) {
	expected := rows()
	for _, to := range table() {
		if r := expected[to.path]; r.method != to.method || r.public != (to.who == anyone) || r.signs != (to.who == self) || r.page != strings.HasPrefix(to.path, statuspage.Prefix) || (to.path == joinapi.PathConnect) != (to.who == nodes) ||
			(to.who == watchers) != (r.page && !r.public) || (to.who == servers) != r.rotate || (to.method == "POST" || to.method == "PUT") != (to.body > 0) {
			t.Errorf("route %s %s is not what the test expects of it: %+v", to.method, to.path, r)
		}
	}
	h := start(t)
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"}
	wish := theRequest(t)
	var said bytes.Buffer
	asked := 0
	for _, id := range identities(h) {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
			client := h.over(protocol, id.cert)
			ask := func(method, path string, signs bool) (int, string, http.Header) {
				t.Helper()
				r, err := http.NewRequestWithContext(t.Context(), method, h.url+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				if method == "PUT" {
					// To itself, so that the others of the table stay who they are.
					const body = `{"newToken":"` + clusterPassword + `"}`
					r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
				}
				if signs && method == "POST" {
					r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(wish)), int64(len(wish))
					joinapi.NodeRequest{Name: "n1", Password: nodePassword}.Set(r.Header)
				}
				maps.Copy(r.Header, id.header)
				res, err := client.Do(r)
				if err != nil {
					t.Fatalf("%s %s: %v", method, path, err)
				}
				body, err := io.ReadAll(res.Body)
				if res.Body.Close(); err != nil || res.Proto != protocol {
					t.Fatalf("%s %s over %s: %v", method, path, res.Proto, err)
				}
				asked++
				fmt.Fprintln(&said, res.Header, string(body))
				return res.StatusCode, string(body), res.Header
			}
			for path, r := range expected {
				for _, method := range methods {
					status, body, header := ask(method, path, r.signs)
					w := want(r, method, id.standing)
					if r.page && !r.public && w != http.StatusMethodNotAllowed {
						w = wantWatching(h, id)
					}
					if path == joinapi.PathConnect && w == http.StatusOK {
						w = wantTunnel(t, h, id, header)
					}
					if status != w {
						t.Errorf("%s %s by %q over %s: %d, want %d: %s", method, path, id.name, protocol, status, w, body)
					}
					if status >= 400 && method != "HEAD" && joinapi.ReadStatus([]byte(body)) == "" {
						t.Errorf("%s %s by %q: %d says nothing: %q", method, path, id.name, status, body)
					}
					if challenge := header.Get("WWW-Authenticate") != ""; challenge != (status == 401) {
						t.Errorf("%s %s by %q: %d with challenge %v", method, path, id.name, status, challenge)
					}
				}
			}
			for _, path := range elsewhere() {
				if status, body, _ := ask("GET", path, false); status != http.StatusTeapot {
					t.Errorf("%s by %q over %s: %d %s, want the API server's answer", path, id.name, protocol, status, body)
				}
			}
		}
	}
	t.Logf("%d requests", asked)
	noSecrets(t, "an answer", said.String())
	noSecrets(t, "the log", h.log.String())
	if !strings.Contains(h.log.String(), "certificate issued") {
		t.Error("the log was not at its most talkative")
	}
}

// theRequest is a certificate request that asks for nothing.
func theRequest(t testing.TB) []byte { return csr(t, pki.Leaf{}) }

func noSecrets(t *testing.T, where, text string) {
	t.Helper()
	for _, secret := range []string{
		clusterPassword, wrongPassword, nodePassword, wrongNode, serviceToken,
		agentPassword, bootstrapSecret, wrongBootstrap, newPassword,
	} {
		for _, form := range []string{secret, base64.StdEncoding.EncodeToString([]byte(secret))} {
			if i := strings.Index(text, form); i >= 0 {
				t.Errorf("%s holds a secret: …%s", where, text[max(0, i-80):i])
			}
		}
	}
}

// Nothing in an answer tells a wrong token from a wrong user or from none.
func TestRefusalsAreAllAlike(t *testing.T) {
	h := start(t)
	var first string
	for _, id := range identities(h) {
		if id.standing != unknown {
			continue
		}
		for range 2 {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.url+joinapi.PathConfig, nil)
			if err != nil {
				t.Fatal(err)
			}
			maps.Copy(r.Header, id.header)
			res, err := h.client(id.cert).Do(r)
			if err != nil {
				t.Fatal(err)
			}
			body, err := io.ReadAll(res.Body)
			if res.Body.Close(); err != nil {
				t.Fatal(err)
			}
			res.Header.Del("Date")
			answer := fmt.Sprint(res.Status, res.Header, string(body))
			if first == "" {
				first = answer
			}
			if answer != first {
				t.Errorf("%q is told\n%s, others\n%s", id.name, answer, first)
			}
		}
	}
}

// The node password, for those who hold the token and for the node itself.
func TestNodePasswordTable(t *testing.T) {
	h := start(t)
	q := request{method: "POST", path: joinapi.PathClientKubelet, body: theRequest(t)}
	var said strings.Builder
	for _, id := range identities(h) {
		if id.standing != member && id.standing != chief {
			continue
		}
		for _, c := range []struct {
			password string
			status   int
		}{{nodePassword, 200}, {wrongNode, 409}, {"", 400}, {"short", 400}, {strings.Repeat("x", 129), 400}} {
			q.cert, q.header = id.cert, maps.Clone(id.header)
			if q.header == nil {
				q.header = http.Header{}
			}
			q.header.Set(joinapi.HeaderNodeName, "n1")
			if c.password != "" {
				q.header.Set(joinapi.HeaderNodePassword, c.password)
			}
			status, body := h.do(q)
			if status != c.status {
				t.Errorf("%q with node password %q: %d %s, want %d", id.name, c.password, status, body, c.status)
			}
			said.WriteString(body)
		}
	}
	noSecrets(t, "an answer", said.String())
	noSecrets(t, "the log", h.log.String())
	if !strings.Contains(h.log.String(), "node refused") {
		t.Error("nothing was logged of a node that was refused")
	}
}

// What a client library would not send: each line as it stands, and which
// handler may answer it. 400 is the server's parser.
func TestPathTricksOnTheWire(t *testing.T) {
	h := start(t)
	h.SetHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) }))
	for line, statuses := range map[string][]int{
		"GET /v1-cleat/config":                           {401},
		"GET https://elsewhere/v1-cleat/config":          {401}, // absolute form
		"GET https://node:x@elsewhere/v1-cleat/config":   {401},
		"GET https://elsewhere//v1-cleat/config":         {418},
		"GET https://elsewhere":                          {418},
		"GET v1-cleat/config":                            {400},
		"GET ?/v1-cleat/config":                          {400},
		"GET /\\v1-cleat/config":                         {418},
		"GET /%76%31-cleat/config":                       {401}, // decodes to the path
		"GET /%70ing":                                    {200},
		"GET /v1-cleat/../ping":                          {401},
		"GET /ping?/v1-cleat/config":                     {200},
		"GET /ping#/v1-cleat/config":                     {418},
		"GET /%zz":                                       {400},
		"CONNECT /v1-cleat/config":                       {405},
		"CONNECT elsewhere:443":                          {418},
		"CONNECT v1-cleat:443":                           {418},
		"OPTIONS *":                                      {200},
		"GET *":                                          {418},
		"PRI *":                                          {418},
		"GET /" + strings.Repeat("v1-cleat/", 100_000):   {431},
		"get /v1-cleat/config":                           {405},
		"GET /v1-cleat/config HTTP/1.1\r\nGET /ping":     {400},
		"POST /v1-cleat/client-kubelet.crt":              {401},
		"GET /v1-cleat/config\x00":                       {400},
		"GET \x00/v1-cleat/config":                       {400},
		"G\x00T /v1-cleat/config":                        {400},
		"GET /v1-cleat/" + strings.Repeat("%2e%2e/", 99): {401},
	} {
		conn := dial(t, h, &tls.Config{RootCAs: h.id.Server.Pool(), ServerName: "127.0.0.1"})
		_, err := io.WriteString(conn, line+" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
		var answer []byte
		if err == nil || strings.Contains(line, "cleat/v1-cleat") {
			answer = make([]byte, len("HTTP/1.1 000"))
			_, err = io.ReadFull(conn, answer)
		}
		if conn.Close(); err != nil {
			t.Errorf("%.60q: %v", line, err)
			continue
		}
		var status int
		if _, err := fmt.Sscanf(string(answer), "HTTP/1.1 %d", &status); err != nil || !slices.Contains(statuses, status) {
			t.Errorf("%.60q: %d, want %v", line, status, statuses)
		}
	}
}
