package main

import "strings"

// urlAddress returns the host part of what follows the scheme of a URL, for
// the log. It is "" whenever a part of a password could be taken for a host,
// as in user:pass/word@host.
func urlAddress(rest string) string {
	authority, tail := rest, ""
	if i := strings.IndexAny(rest, "/?#"); i >= 0 {
		authority, tail = rest[:i], rest[i:]
	}
	if strings.Contains(tail, "@") {
		return ""
	}
	hosts := authority[strings.LastIndexByte(authority, '@')+1:]
	for host := range strings.SplitSeq(hosts, ",") {
		if !isHostPort(host) {
			return ""
		}
	}
	return hosts
}

// mysqlAddress returns the address of user:password@tcp(host:port)/database.
func mysqlAddress(dsn string) string {
	slash := strings.LastIndexByte(dsn, '/')
	if slash < 0 {
		return ""
	}
	address := dsn[:slash]
	address = address[strings.LastIndexByte(address, '@')+1:]
	network, rest, found := strings.Cut(address, "(")
	inner, closed := strings.CutSuffix(rest, ")")
	if !found || !closed {
		return ""
	}
	switch {
	case network == "tcp" && isHostPort(inner):
		return inner
	case network == "unix" && strings.HasPrefix(inner, "/") && !strings.ContainsAny(inner, "@:()"):
		return inner
	}
	return ""
}

// isHostPort reports whether s is a host name or address, with a port or not.
func isHostPort(s string) bool {
	host, port := s, ""
	if i := strings.LastIndexByte(s, ':'); i >= 0 && !strings.HasSuffix(s, "]") {
		host, port = s[:i], s[i+1:]
		if port == "" || strings.Trim(port, "0123456789") != "" {
			return false
		}
	}
	if inner, ok := strings.CutPrefix(host, "["); ok {
		inner, closed := strings.CutSuffix(inner, "]")
		return closed && strings.Trim(inner, "0123456789abcdefABCDEF:.") == ""
	}
	return host != "" && !strings.ContainsFunc(host, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' || r == '.' || r == '_')
	})
}
