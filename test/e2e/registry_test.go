//go:build e2e

package e2e

import (
	"archive/tar"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/test/e2e/lab"
)

// descriptor is what an OCI index or manifest says about a blob.
type descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
}

// registry serves one image, as library/tool:1, to those who know the password.
type registry struct {
	blobs    map[string][]byte // by digest
	manifest descriptor
	layers   []descriptor

	mu   sync.Mutex
	seen map[string][]string // the requests that reached each port: user, or "-" for nobody, method and path
}

const (
	registryUser     = "robot"
	registryPassword = "secret-of-the-registry"
	wrongPassword    = "guess-at-the-registry"
)

// readRegistry makes a registry of the first image in an OCI layout.
func readRegistry(t *testing.T, archive string) *registry {
	t.Helper()
	f, err := os.Open(archive)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := &registry{blobs: map[string][]byte{}, seen: map[string][]string{}}
	var index struct {
		Manifests []descriptor `json:"manifests"`
	}
	for files := tar.NewReader(f); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", archive, err)
		}
		content, err := io.ReadAll(files)
		if err == nil && h.Name == "index.json" {
			err = json.Unmarshal(content, &index)
		}
		if err != nil {
			t.Fatalf("%s: %s: %v", archive, h.Name, err)
		}
		if dir, name := path.Split(h.Name); dir == "blobs/sha256/" && name != "" {
			r.blobs["sha256:"+name] = content
		}
	}
	if len(index.Manifests) == 0 {
		t.Fatalf("%s: no image in index.json", archive)
	}
	r.manifest = index.Manifests[0]
	var manifest struct {
		Layers []descriptor `json:"layers"`
	}
	if err := json.Unmarshal(r.blobs[r.manifest.Digest], &manifest); err != nil || len(manifest.Layers) == 0 {
		t.Fatalf("%s: manifest %s: %d layers, %v", archive, r.manifest.Digest, len(manifest.Layers), err)
	}
	r.layers = manifest.Layers
	return r
}

func (r *registry) ServeHTTP(w http.ResponseWriter, q *http.Request) {
	user, password, ok := q.BasicAuth()
	if !ok {
		user = "-"
	}
	_, port, _ := net.SplitHostPort(q.Host) // "" is a port that nobody asks for
	r.mu.Lock()
	r.seen[port] = append(r.seen[port], user+" "+q.Method+" "+q.URL.Path)
	r.mu.Unlock()
	switch {
	case user != registryUser || password != registryPassword:
		w.Header().Set("WWW-Authenticate", `Basic realm="registry"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	case q.Method != http.MethodGet && q.Method != http.MethodHead:
		http.Error(w, "read only", http.StatusMethodNotAllowed)
		return
	case q.URL.Path == "/v2/":
		return
	}
	kind, reference := path.Split(strings.TrimPrefix(q.URL.Path, "/v2/library/tool/"))
	if kind == "manifests/" && reference == "1" {
		reference = r.manifest.Digest
	}
	content, ok := r.blobs[reference]
	if !ok || kind != "manifests/" && kind != "blobs/" {
		http.NotFound(w, q)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	if kind == "manifests/" {
		w.Header().Set("Content-Type", r.manifest.MediaType)
	}
	w.Header().Set("Docker-Content-Digest", reference)
	http.ServeContent(w, q, "", time.Time{}, bytes.NewReader(content))
}

// requests returns those that reached a port so far.
func (r *registry) requests(port string) string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.seen[port], "\n")
}

// serve answers on a port of the machine until the test ends.
func (r *registry) serve(t *testing.T, m *lab.Machine, port int, cert tls.Certificate) {
	t.Helper()
	server := &http.Server{
		Handler:           r,
		TLSConfig:         &tls.Config{Certificates: []tls.Certificate{cert}},
		ReadHeaderTimeout: podPatience,
		ErrorLog:          log.New(io.Discard, "", 0), // a client that does not trust the certificate is wanted
	}
	l := m.Listen(t, port)
	ended := make(chan error, 1)
	go func() { ended <- server.ServeTLS(l, "", "") }()
	t.Cleanup(func() {
		if err := server.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Errorf("the registry on port %d: %v", port, err)
		}
	})
}

// makeCertificate makes a CA, returned in PEM, and a certificate of it for an address.
func makeCertificate(t *testing.T, address net.IP) (ca string, leaf tls.Certificate) {
	t.Helper()
	sign := func(template, parent *x509.Certificate, signer *ecdsa.PrivateKey) ([]byte, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if signer == nil {
			signer = key
		}
		template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
		der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
		if err != nil {
			t.Fatal(err)
		}
		return der, key
	}
	authority := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "registry CA"},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	caDER, caKey := sign(authority, authority, nil)
	der, key := sign(&x509.Certificate{SerialNumber: big.NewInt(2), Subject: pkix.Name{CommonName: "registry"},
		IPAddresses: []net.IP{address}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}, authority, caKey)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: caDER})),
		tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// A registry with a CA of its own and a password, reached as a mirror: the node
// pulls from it what registries.yaml lets it, and says why not otherwise.
func TestRegistry(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	n := newNode(t, l, "n1")
	// Nothing of the image may be on the node already.
	if err := os.Remove(n.Path("/var/lib/cleat/agent/images/test-images.tar")); err != nil {
		t.Fatal(err)
	}
	r := readRegistry(t, artefact(t, "CLEAT_TEST_IMAGES", "build/test-images.tar"))
	m := l.Machine("registry")
	ca, cert := makeCertificate(t, m.Addr.AsSlice())
	// The same registry three times, so that one node has three ways to it.
	for _, port := range []int{5000, 5001, 5002} {
		r.serve(t, m, port, cert)
	}
	// After a mirror the registry itself is asked: a closed port answers at once, a
	// missing name server after half a minute.
	n.Must(t, "sh", "-c", fmt.Sprintf("echo %s registry.test guessed.test distrusted.test >>/etc/hosts", m.Addr))
	n.WriteFile(t, "/etc/cleat/registry-ca.pem", ca)
	n.WriteFile(t, "/etc/cleat/registries.yaml", fmt.Sprintf(`
mirrors:
  registry.test: {endpoint: ["https://%[1]s:5000"]}
  guessed.test: {endpoint: ["https://%[1]s:5001"]}
  distrusted.test: {endpoint: ["https://%[1]s:5002"]}
configs:
  "%[1]s:5000":
    auth: {username: %[2]s, password: %[3]s}
    tls: {ca_file: /etc/cleat/registry-ca.pem}
  "%[1]s:5001":
    auth: {username: %[2]s, password: %[4]s}
    tls: {ca_file: /etc/cleat/registry-ca.pem}
  "%[1]s:5002":
    auth: {username: %[2]s, password: %[3]s}
`, m.Addr, registryUser, registryPassword, wrongPassword))
	t.Logf("with registries.yaml: Ready after %.1f s", n.serve(t))
	ns := n.namespace(t, "pulls")
	pull := func(t *testing.T, pod, image string) {
		t.Helper()
		n.apply(t, ns, podWith(pod, specOf(image, ", imagePullPolicy: Always", "")))
	}

	// Refused first: with the image on the node nothing would need the blobs.
	for _, tc := range []struct{ name, host, port, why string }{
		{"wrong password", "guessed.test", "5001", "401 Unauthorized"},
		{"unknown CA", "distrusted.test", "5002", "certificate signed by unknown authority"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			pod, _, _ := strings.Cut(tc.host, ".")
			pull(t, pod, tc.host+"/library/tool:1")
			eventuallyPrints(t, n.Machine, podPatience, tc.why, "kubectl", "get", "events", "-n", ns,
				"--field-selector", "reason=Failed,involvedObject.name="+pod, "-o", `jsonpath={range .items[*]}{.message}{"\n"}{end}`)
			got := r.requests(tc.port)
			if asked := strings.Contains(got, registryUser+" "); asked != (tc.name == "wrong password") {
				t.Errorf("requests with the user's name: %v:\n%s", asked, got)
			}
			if strings.Contains(got, "/blobs/") {
				t.Errorf("it went on to the blobs:\n%s", got)
			}
		})
	}
	t.Run("right password", func(t *testing.T) {
		pull(t, "tool", "registry.test/library/tool:1")
		n.awaitPod(t, ns, "tool")
		got := r.requests("5000")
		for _, want := range []string{" /v2/library/tool/manifests/1", " GET /v2/library/tool/blobs/" + r.layers[0].Digest} {
			if !hasLine(got, registryUser+" ", want) {
				t.Errorf("no request of %s for %q; there were:\n%s", registryUser, want, got)
			}
		}
		if out := n.kubectl(t, "exec", "-n", ns, "tool", "--", "echo", "pulled"); out != "pulled\n" {
			t.Errorf("the image's program printed %q", out)
		}
	})
	events := n.kubectl(t, "get", "events", "-n", ns, "-o", "jsonpath={.items[*].message}")
	for _, secret := range []string{registryPassword, wrongPassword} {
		if strings.Contains(n.server.Log(), secret) || strings.Contains(events, secret) {
			t.Errorf("the password %s is in the log or in an event", secret)
		}
	}
}

// hasLine tells whether a line of text begins and ends so.
func hasLine(text, begin, end string) bool {
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, begin) && strings.HasSuffix(line, end) {
			return true
		}
	}
	return false
}
