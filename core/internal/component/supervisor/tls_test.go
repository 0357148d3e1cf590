package supervisor

import (
	"crypto/tls"
	"strings"
	"testing"
)

// Handshakes that offer too little, and names that are none.
func TestHandshakes(t *testing.T) {
	h := start(t)
	for name, c := range map[string]struct {
		change  func(*tls.Config)
		refused string
	}{
		"TLS 1.0": {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS10 }, "version"},
		"TLS 1.1": {func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS10, tls.VersionTLS11 }, "version"},
		"TLS 1.2": {func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }, ""},
		"TLS 1.3": {func(c *tls.Config) { c.MinVersion = tls.VersionTLS13 }, ""},
		"RC4": {func(c *tls.Config) {
			c.MaxVersion = tls.VersionTLS12
			c.CipherSuites = []uint16{tls.TLS_RSA_WITH_RC4_128_SHA}
		}, "handshake failure"},
		"another protocol":      {func(c *tls.Config) { c.NextProtos = []string{"smtp"} }, "no application protocol"},
		"HTTP/2 among others":   {func(c *tls.Config) { c.NextProtos = []string{"smtp", "h2"} }, ""},
		"a long server name":    {func(c *tls.Config) { c.ServerName = strings.Repeat("a", 4000) + ".example" }, ""},
		"a path as server name": {func(c *tls.Config) { c.ServerName = "../../etc/cleat" }, ""},
		"no server name":        {func(c *tls.Config) { c.ServerName = "" }, ""},
	} {
		config := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true} // what is served is looked at below
		c.change(config)
		conn := tls.Client(h.tcp(here), config)
		err := conn.HandshakeContext(t.Context())
		if c.refused != "" {
			if err == nil || !strings.Contains(err.Error(), c.refused) {
				t.Errorf("%s: %v, want %q", name, err, c.refused)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if cert := conn.ConnectionState().PeerCertificates[0]; cert.Subject.CommonName != "kube-apiserver" {
			t.Errorf("%s: served %s", name, cert.Subject)
		}
	}
}
