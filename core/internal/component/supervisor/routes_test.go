package supervisor

import (
	"crypto/x509"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

// certificateLife is how long the harness has certificates last.
const certificateLife = 48 * time.Hour

func TestWhatTheCertificatesSay(t *testing.T) {
	h := start(t)
	for _, c := range []struct {
		path, user string
		group      string
		ca         *pki.Authority
		use        x509.ExtKeyUsage
	}{
		{joinapi.PathClientKubelet, "system:node:n1", "system:nodes", h.id.Client, x509.ExtKeyUsageClientAuth},
		{joinapi.PathClientKubeProxy, "system:kube-proxy", "", h.id.Client, x509.ExtKeyUsageClientAuth},
		{joinapi.PathClientNetwork, "cleat-network", "", h.id.Client, x509.ExtKeyUsageClientAuth},
		{joinapi.PathServingKubelet, "system:node:n1", "system:nodes", h.id.Server, x509.ExtKeyUsageServerAuth},
	} {
		node := joinapi.NodeRequest{Name: "n1", Password: nodePassword, IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3")}}
		status, body := h.do(request{method: "POST", path: c.path, user: "node", password: clusterPassword, node: &node, body: csr(t, pki.Leaf{})})
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", c.path, status, body)
		}
		certs, err := pki.ParseCertificates([]byte(body))
		if err != nil {
			t.Fatal(err)
		}
		got := certs[0]
		if got.Subject.CommonName != c.user || strings.Join(got.Subject.Organization, ",") != c.group {
			t.Errorf("%s is for %v", c.path, got.Subject)
		}
		if _, err := got.Verify(x509.VerifyOptions{Roots: c.ca.Pool(), KeyUsages: []x509.ExtKeyUsage{c.use}}); err != nil {
			t.Errorf("%s: %v", c.path, err)
		}
		if len(got.ExtKeyUsage) != 1 || got.IsCA {
			t.Errorf("%s is good for %v, CA %v", c.path, got.ExtKeyUsage, got.IsCA)
		}
		if left := time.Until(got.NotAfter); left > certificateLife || left < certificateLife-time.Minute {
			t.Errorf("%s ends in %v", c.path, left)
		}
		serving := c.path == joinapi.PathServingKubelet
		if ok := got.VerifyHostname("n1") == nil && got.VerifyHostname("10.1.2.3") == nil; ok != serving {
			t.Errorf("%s: names %v %v", c.path, got.DNSNames, got.IPAddresses)
		}
	}
}

func TestServingCertificateLimits(t *testing.T) {
	h := start(t)
	post := func(name string, leaf pki.Leaf, ips ...string) (int, string) {
		t.Helper()
		node := joinapi.NodeRequest{Name: name, Password: nodePassword}
		for _, ip := range ips {
			node.IPs = append(node.IPs, netip.MustParseAddr(ip))
		}
		return h.do(request{method: "POST", path: joinapi.PathServingKubelet, user: "node", password: clusterPassword, node: &node, body: csr(t, leaf)})
	}
	addr := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	for _, c := range []struct {
		leaf   pki.Leaf
		ips    []string
		status int
		want   string
	}{
		{pki.Leaf{DNSNames: []string{"n1"}, IPs: addr("10.1.2.3")}, []string{"10.1.2.3"}, 200, "CERTIFICATE"},
		{pki.Leaf{DNSNames: []string{"kubernetes"}}, nil, 403, `"kubernetes" is not for node`},
		{pki.Leaf{IPs: addr("10.1.2.4")}, []string{"10.1.2.3"}, 403, "10.1.2.4 is in the certificate request but not"},
		{pki.Leaf{}, []string{"10.43.0.1"}, 403, "service network"},
		{pki.Leaf{}, []string{"127.0.0.1"}, 400, "no node's"},
	} {
		status, body := post("n1", c.leaf, c.ips...)
		if got := body; status != c.status || !strings.Contains(strings.ReplaceAll(got, `\"`, `"`), c.want) {
			t.Errorf("%+v with %v: %d %s, want %d %q", c.leaf, c.ips, status, body, c.status, c.want)
		}
	}
	// The test's requests come from this machine, which may be the server's node.
	if status, body := post("server-1", pki.Leaf{}, "192.0.2.1"); status != 200 {
		t.Errorf("the server's own node: %d %s", status, body)
	}
}

// From another machine, a server's name or address is refused.
func TestServersNamesAreReserved(t *testing.T) {
	h := start(t)
	a, err := h.routes(h.id, tokenOf(t, h), h.store)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		remote, name, ip string
		refused          bool
	}{
		{"203.0.113.5:1", "n1", "203.0.113.5", false},
		{"203.0.113.5:1", "n1", "192.0.2.1", true},
		{"203.0.113.5:1", "server-1", "203.0.113.5", true},
		{"203.0.113.5:1", "x.api.example", "203.0.113.5", true},
		{"127.0.0.1:1", "server-1", "192.0.2.1", false},
		{"[::1]:1", "server-1", "192.0.2.1", false},
		{"nonsense", "server-1", "192.0.2.1", true},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://h"+joinapi.PathServingKubelet, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.RemoteAddr = c.remote
		_, _, err = a.leafFor(r, joinapi.NodeRequest{Name: c.name, IPs: []netip.Addr{netip.MustParseAddr(c.ip)}}, &x509.CertificateRequest{})
		if (err != nil) != c.refused {
			t.Errorf("%s as %s %s: %v, want refused %v", c.remote, c.name, c.ip, err, c.refused)
		}
	}
}

func TestBadCertificateRequests(t *testing.T) {
	h := start(t)
	good := request{method: "POST", path: joinapi.PathClientKubelet, user: "node", password: clusterPassword,
		node: &joinapi.NodeRequest{Name: "n1", Password: nodePassword}, body: csr(t, pki.Leaf{})}
	for want, c := range map[string]struct {
		status int
		change func(*request)
	}{
		"no PEM block":             {400, func(q *request) { q.body = nil }},
		"at most 16384":            {413, func(q *request) { q.body = make([]byte, joinapi.MaxRequestBody+1) }},
		"wants POST":               {405, func(q *request) { q.method = "GET" }},
		"lower-case":               {400, func(q *request) { q.node = &joinapi.NodeRequest{Name: "N", Password: nodePassword} }},
		"Node-Password: node":      {400, func(q *request) { q.node = &joinapi.NodeRequest{Name: "n1", Password: "short"} }},
		"Cleat-Node-Name is missi": {400, func(q *request) { q.node = nil }},
	} {
		q := good
		c.change(&q)
		if status, body := h.do(q); status != c.status || !strings.Contains(body, want) {
			t.Errorf("%d %s, want %d %q", status, body, c.status, want)
		}
	}
	if len(h.store.copy()) != 0 {
		t.Error("a bad request took a node's name")
	}
}

func TestNodeNamesBelongToWhoCameFirst(t *testing.T) {
	h := start(t)
	ask := func(name, password string) (int, string) {
		t.Helper()
		return h.do(request{method: "POST", path: joinapi.PathClientKubelet, user: "node", password: clusterPassword,
			node: &joinapi.NodeRequest{Name: name, Password: password}, body: csr(t, pki.Leaf{})})
	}
	for _, c := range []struct {
		name, password string
		want           int
	}{
		{"n1", nodePassword, 200}, {"n1", nodePassword, 200},
		{"n1", "fedcba9876543210", 403}, {"n1", nodePassword, 200}, {"n2", "fedcba9876543210", 200},
	} {
		if status, body := ask(c.name, c.password); status != c.want || status == 403 && !strings.Contains(body, "--node-name") {
			t.Errorf("%s: %d %s, want %d", c.name, status, body, c.want)
		}
	}
	for key, record := range h.store.copy() {
		if strings.Contains(string(record), nodePassword) || !strings.HasPrefix(key, "/nodepasswords/n") {
			t.Errorf("%s = %s", key, record)
		}
	}
	// A certificate does not replace the password.
	status, _ := h.do(request{method: "POST", path: joinapi.PathClientKubelet, cert: h.clientCert(h.id.Client, "system:node:n1", "system:nodes"),
		node: &joinapi.NodeRequest{Name: "n1", Password: "fedcba9876543210"}, body: csr(t, pki.Leaf{})})
	if status != 403 {
		t.Errorf("wrong password with the node's certificate: %d", status)
	}
	h.store.setFail(errors.New("disk full"))
	if status, body := ask("n1", nodePassword); status != 503 || strings.Contains(body, "disk full") {
		t.Errorf("datastore down: %d %s", status, body)
	}
}

func TestNodeConfig(t *testing.T) {
	h := start(t)
	_, body := h.do(request{path: joinapi.PathConfig, user: "node", password: clusterPassword})
	got, err := joinapi.ParseNodeConfig([]byte(body))
	if err != nil || got.CNI != "cni-flannel" || got.Version != "v1.36.3+test" {
		t.Errorf("%+v, %v", got, err)
	}
}

func FuzzCertificateRoute(f *testing.F) {
	h := start(f)
	own, err := h.routes(h.id, tokenOf(f, h), h.store)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(csr(f, pki.Leaf{}), "n1", nodePassword, "10.0.0.1", "serving-kubelet.crt")
	f.Add([]byte("-----BEGIN CERTIFICATE REQUEST-----\n"), "n1", nodePassword, "", "client-kubelet.crt")
	f.Fuzz(func(t *testing.T, body []byte, name, password, ips, path string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "https://h/", strings.NewReader(string(body)))
		if err != nil {
			t.Fatal(err)
		}
		r.URL.Path = joinapi.Prefix + path
		r.RemoteAddr = "203.0.113.5:1"
		r.SetBasicAuth("node", clusterPassword)
		r.Header[joinapi.HeaderNodeName] = []string{name}
		r.Header[joinapi.HeaderNodePassword] = []string{password}
		if ips != "" {
			r.Header[joinapi.HeaderNodeIP] = []string{ips}
		}
		w := &answer{header: http.Header{}}
		own.ServeHTTP(w, r)
		if w.status != 0 && w.status != http.StatusOK {
			return
		}
		certs, err := pki.ParseCertificates(w.body)
		if err != nil || len(certs[0].Subject.Organization) > 1 || strings.Contains(certs[0].Subject.String(), "masters") {
			t.Fatalf("signed %s: %v", w.body, err)
		}
	})
}

type answer struct {
	header http.Header
	status int
	body   []byte
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { a.body = append(a.body, p...); return len(p), nil }
