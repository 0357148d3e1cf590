//go:build !wasip1

package plugintest

import (
	"fmt"
	"strconv"
	"strings"
)

// parseConfig reads the configuration of one plugin as it stands in
// plugins.lock: the table [plugin.config] and tables of strings below it. It
// knows as much of TOML as a configuration can need: comments, bare and quoted
// keys, strings on one line, integers, booleans, arrays of strings and inline
// tables of strings.
func parseConfig(text string) (config map[string]any, err error) {
	s := &tomlScanner{text: text}
	config = map[string]any{}
	var table map[string]any
	for s.skip(true); s.err == nil && s.rest() != ""; s.endOfLine() {
		if s.take("[") {
			table = s.header(config)
			continue
		}
		if table == nil {
			s.fail("a key before [plugin.config]")
			break
		}
		s.pair(table, s.value)
	}
	return config, s.err
}

type tomlScanner struct {
	text string
	at   int
	err  error
}

func (s *tomlScanner) rest() string { return s.text[s.at:] }

func (s *tomlScanner) fail(format string, args ...any) {
	if s.err == nil {
		line := 1 + strings.Count(s.text[:s.at], "\n")
		s.err = fmt.Errorf("toml: line %d: %s", line, fmt.Sprintf(format, args...))
	}
	s.at = len(s.text)
}

// skip goes over blanks and, if lines is true, line ends and comments.
func (s *tomlScanner) skip(lines bool) {
	for s.at < len(s.text) {
		switch c := s.text[s.at]; {
		case c == ' ' || c == '\t' || lines && (c == '\n' || c == '\r'):
			s.at++
		case lines && c == '#':
			s.comment()
		default:
			return
		}
	}
}

func (s *tomlScanner) comment() {
	if i := strings.IndexByte(s.rest(), '\n'); i >= 0 {
		s.at += i
		return
	}
	s.at = len(s.text)
}

func (s *tomlScanner) take(token string) bool {
	if !strings.HasPrefix(s.rest(), token) {
		return false
	}
	s.at += len(token)
	return true
}

func (s *tomlScanner) want(token string) {
	if s.skip(false); !s.take(token) {
		s.fail("want %s", token)
	}
}

func (s *tomlScanner) endOfLine() {
	s.skip(false)
	if strings.HasPrefix(s.rest(), "#") {
		s.comment()
	}
	if s.rest() != "" && !s.take("\n") && !s.take("\r\n") {
		s.fail("want the end of the line")
	}
	s.skip(true)
}

// header reads the rest of [plugin.config] or [plugin.config.key].
func (s *tomlScanner) header(config map[string]any) map[string]any {
	var keys []string
	for more := true; more && s.err == nil; more = s.take(".") {
		keys = append(keys, s.key())
		s.skip(false)
	}
	s.want("]")
	if s.err != nil {
		return nil
	}
	if len(keys) < 2 || len(keys) > 3 || keys[0] != "plugin" || keys[1] != "config" {
		s.fail("want [plugin.config] or a table below it, not [%s]", strings.Join(keys, "."))
		return nil
	}
	if len(keys) == 2 {
		return config
	}
	if _, again := config[keys[2]]; again {
		s.fail("%s is there twice", keys[2])
		return nil
	}
	table := map[string]any{}
	config[keys[2]] = table
	return table
}

func (s *tomlScanner) key() string {
	s.skip(false)
	if rest := s.rest(); rest != "" && (rest[0] == '"' || rest[0] == '\'') {
		return s.string()
	}
	n := strings.IndexFunc(s.rest(), func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '_' || r == '-')
	})
	if n < 0 {
		n = len(s.rest())
	}
	if n == 0 {
		s.fail("want a key")
		return ""
	}
	key := s.rest()[:n]
	s.at += n
	return key
}

func (s *tomlScanner) pair(table map[string]any, value func() any) {
	key := s.key()
	s.want("=")
	s.skip(false)
	v := value()
	if _, again := table[key]; again {
		s.fail("%s is there twice", key)
	}
	table[key] = v
}

func (s *tomlScanner) value() any {
	switch {
	case s.take("true"):
		return true
	case s.take("false"):
		return false
	case s.take("["):
		return s.array()
	case s.take("{"):
		return s.inline()
	case strings.HasPrefix(s.rest(), `"`), strings.HasPrefix(s.rest(), "'"):
		return s.string()
	}
	n := 0
	for n < len(s.rest()) && strings.IndexByte("+-_0123456789", s.rest()[n]) >= 0 {
		n++
	}
	number, err := strconv.ParseInt(strings.ReplaceAll(s.rest()[:n], "_", ""), 10, 64)
	if err != nil {
		s.fail("want a string, integer, boolean, array of strings or inline table of strings")
		return nil
	}
	s.at += n
	return number
}

func (s *tomlScanner) array() []any {
	list := []any{}
	for s.skip(true); s.err == nil; s.skip(true) {
		if s.take("]") {
			return list
		}
		list = append(list, s.string())
		if s.skip(true); !s.take(",") && !strings.HasPrefix(s.rest(), "]") {
			s.fail("want , or ]")
		}
	}
	return list
}

func (s *tomlScanner) inline() map[string]any {
	table := map[string]any{}
	if s.skip(false); s.take("}") {
		return table
	}
	for s.err == nil {
		s.pair(table, func() any { return s.string() })
		if s.skip(false); s.take("}") {
			return table
		}
		s.want(",")
	}
	return table
}

func (s *tomlScanner) string() string {
	rest := s.rest()
	if rest == "" || rest[0] != '"' && rest[0] != '\'' || strings.HasPrefix(rest, `"""`) || strings.HasPrefix(rest, "'''") {
		s.fail("want a string on one line")
		return ""
	}
	quote := rest[0]
	for i := 1; i < len(rest) && rest[i] != '\n'; i++ {
		switch {
		case rest[i] == '\\' && quote == '"':
			i++
		case rest[i] == quote:
			s.at += i + 1
			if quote == '\'' {
				return rest[1:i]
			}
			text, err := strconv.Unquote(rest[:i+1])
			if err != nil {
				s.at -= i + 1
				s.fail("%s is no string", rest[:i+1])
			}
			return text
		}
	}
	s.fail("a string without an end")
	return ""
}
