package token

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

const hash = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func TestParse(t *testing.T) {
	for _, c := range []struct {
		in   string
		want Token
	}{
		{"secret", Token{Password: "secret"}},
		{" \tsecret\r\n", Token{Password: "secret"}},
		{"with:colon", Token{Password: "with:colon"}},
		{"K10" + hash + "::server:se:cret", Token{CAHash: hash, Username: "server", Password: "se:cret"}},
		{"K10::node:secret", Token{Username: "node", Password: "secret"}},
		{"abcdef.0123456789abcdef", Token{Username: "abcdef", Password: "0123456789abcdef", Bootstrap: true}},
		{"abcdef.0123456789abcde", Token{Password: "abcdef.0123456789abcde"}},
		{"Abcdef.0123456789abcdef", Token{Password: "Abcdef.0123456789abcdef"}},
		{"K10" + hash + "::abcdef.0123456789abcdef", Token{CAHash: hash, Username: "abcdef", Password: "0123456789abcdef", Bootstrap: true}},
	} {
		got, err := Parse(c.in)
		if err != nil || got != c.want {
			t.Errorf("Parse(%q) = %#v, %v; want %#v", c.in, got, err, c.want)
			continue
		}
		if again, err := Parse(got.Format()); err != nil || again != got {
			t.Errorf("Parse(Format(%q)) = %#v, %v", c.in, again, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "empty",
		"\n":                      "empty",
		strings.Repeat("x", 1025): "at most",
		"sec ret":                 "character 4",
		"s\x00":                   "character 2",
		"sécret":                  "character 2",
		"K10secret":               "no \"::\"",
		// It would be sent to any server as a password otherwise, with what it holds.
		`"K10` + hash + `::server:s3cr3t"`:                "in quotes",
		"'K10" + hash + "::abcdef.s3cr3t'":                "in quotes",
		"token=K10" + hash + "::node:s3cr3t":              "copy it whole",
		hash[:20] + "::server:s3cr3t":                     "copy it whole",
		"K10abc::server:secret":                           "3 characters",
		"K10" + hash + "::":                               "<user>:<password>",
		"K10" + hash + "::s3cr3t":                         "<user>:<password>",
		"K10" + hash + "::server:":                        "<user>:<password>",
		"K10" + hash + ":::s3cr3t":                        "<user>:<password>",
		"K10" + strings.ToUpper(hash) + "::server:s3cr3t": "lower-case",
	} {
		_, err := Parse(in)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Parse(%q): %v, want an error with %q", in, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "s3cr3t") {
			t.Errorf("Parse(%q) shows the secret: %v", in, err)
		}
	}
}

func TestTokenHidesItsSecret(t *testing.T) {
	tok := Token{CAHash: hash, Username: "server", Password: "hunter2"}
	var log bytes.Buffer
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "token", tok)
	for _, s := range []string{log.String(), fmt.Sprint(tok), fmt.Sprintf("%v %+v %#v %s", tok, tok, tok, tok)} {
		if strings.Contains(s, "hunter2") || !strings.Contains(s, "server:") {
			t.Errorf("shown as %q", s)
		}
	}
}

func TestHashCA(t *testing.T) {
	ca, err := pki.NewAuthority("one", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	// The text counts, not only the certificate: a remark makes another hash.
	for _, text := range [][]byte{ca.CertPEM(), append([]byte("remark\n"), ca.CertPEM()...)} {
		sum := sha256.Sum256(text)
		if got, err := HashCA(text); err != nil || got != hex.EncodeToString(sum[:]) {
			t.Errorf("HashCA = %s, %v; want the text's SHA-256", got, err)
		}
	}
	other, err := pki.NewAuthority("other", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	bundle := append(bytes.Clone(ca.CertPEM()), other.CertPEM()...)
	block, _ := pem.Decode(ca.CertPEM())
	sum := sha256.Sum256(block.Bytes)
	if got, err := HashCA(bundle); err != nil || got != hex.EncodeToString(sum[:]) {
		t.Errorf("HashCA of a bundle = %s, %v; want the first root's DER", got, err)
	}
	if _, err := HashCA([]byte("nothing")); err == nil {
		t.Error("HashCA accepted no certificate")
	}
}

func TestCheckCA(t *testing.T) {
	ca, err := pki.NewAuthority("one", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	good, err := HashCA(ca.CertPEM())
	if err != nil {
		t.Fatal(err)
	}
	for want, ok := range map[string]bool{good: true, "": true, hash: false} {
		if err := (Token{CAHash: want}).CheckCA(ca.CertPEM()); (err == nil) != ok {
			t.Errorf("hash %q: %v", want, err)
		}
	}
}

func TestNewPassword(t *testing.T) {
	a, b := NewPassword(), NewPassword()
	if a == b || len(a) != 32 || !Equal(a, a) || Equal(a, b) {
		t.Errorf("passwords %q and %q", a, b)
	}
	if tok, err := Parse(a); err != nil || tok.Password != a {
		t.Errorf("a new password is no short token: %#v, %v", tok, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"x", "K10::a:b", "K10" + hash + "::server:p:q", "abcdef.0123456789abcdef", "K10" + hash + "::abcdef.0123456789abcdef", "K10"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tok, err := Parse(s)
		if err != nil {
			return
		}
		if tok.Password == "" {
			t.Fatalf("Parse(%q): no password", s)
		}
		again, err := Parse(tok.Format())
		if err != nil || again != tok {
			t.Fatalf("Parse(%q) = %#v, formatted and parsed again %#v, %v", s, tok, again, err)
		}
		if len(tok.Password) > 3 && !strings.Contains(tok.Username+tok.CAHash+"K10", tok.Password) && strings.Contains(tok.String(), tok.Password) {
			t.Fatalf("String of %q shows the secret", s)
		}
	})
}
