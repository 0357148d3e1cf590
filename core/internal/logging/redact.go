package logging

import (
	"fmt"
	"log/slog"
	"regexp"
	"strings"
)

const redacted = "[redacted]"

// joinToken is a full join token: K10, the hash of the cluster's CA, "::" and
// the secret. It is the one secret that likes to turn up inside other text,
// such as an error that quotes a command line.
var joinToken = regexp.MustCompile(`K10[0-9a-fA-F]{64}::[^\s"']+`)

// redact is a slog ReplaceAttr. Callers must not log secrets; this is the net
// below them. It blanks attributes that are named like a secret and join
// tokens wherever they stand.
func redact(_ []string, a slog.Attr) slog.Attr {
	if secretName(a.Key) && a.Value.Kind() != slog.KindGroup {
		return slog.String(a.Key, redacted)
	}
	switch a.Value.Kind() {
	case slog.KindString:
		if s, hit := scrub(a.Value.String()); hit {
			return slog.String(a.Key, s)
		}
	case slog.KindAny:
		var text string
		switch v := a.Value.Any().(type) {
		case error:
			text = v.Error()
		case fmt.Stringer:
			text = v.String()
		case []string:
			text = strings.Join(v, " ")
		default:
			return a
		}
		if s, hit := scrub(text); hit {
			return slog.String(a.Key, s)
		}
	}
	return a
}

// scrub blanks the join tokens in s. The two substring tests keep the regular
// expression off the path of ordinary lines.
func scrub(s string) (clean string, hit bool) {
	if !strings.Contains(s, "K10") || !strings.Contains(s, "::") {
		return s, false
	}
	clean = joinToken.ReplaceAllString(s, redacted)
	return clean, clean != s
}

func secretName(key string) bool {
	switch strings.ToLower(key) {
	case "token", "password", "passwd", "secret", "authorization", "private_key", "privatekey", "passphrase":
		return true
	}
	return false
}
