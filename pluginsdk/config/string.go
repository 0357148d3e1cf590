package config

import (
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

func (p *parser) string() string {
	if p.want('"'); p.err != nil {
		return ""
	}
	start := p.at
	for p.at < len(p.text) {
		switch c := p.text[p.at]; {
		case c == '"':
			s := string(p.text[start:p.at])
			p.at++
			return s
		case c == '\\':
			return p.escaped(start)
		case c < 0x20:
			p.fail("a control character in a string")
			return ""
		default:
			p.at++
		}
	}
	p.fail("a string without an end")
	return ""
}

// escaped reads on in a string, from its first backslash.
func (p *parser) escaped(start int) string {
	s := append([]byte{}, p.text[start:p.at]...)
	for p.at < len(p.text) {
		c := p.text[p.at]
		p.at++
		switch {
		case c == '"':
			return string(s)
		case c == '\\':
			s = p.escape(s)
		case c < 0x20:
			p.at--
			p.fail("a control character in a string")
			return ""
		default:
			s = append(s, c)
		}
	}
	p.fail("a string without an end")
	return ""
}

// escape appends the character that an escape means.
func (p *parser) escape(s []byte) []byte {
	if p.at == len(p.text) {
		return s
	}
	c := p.text[p.at]
	p.at++
	switch c {
	case '"', '\\', '/':
		return append(s, c)
	case 'b':
		return append(s, '\b')
	case 'f':
		return append(s, '\f')
	case 'n':
		return append(s, '\n')
	case 'r':
		return append(s, '\r')
	case 't':
		return append(s, '\t')
	case 'u':
		r := p.unit()
		if utf16.IsSurrogate(r) {
			before := p.at
			second := rune(-1)
			if p.word(`\u`) {
				second = p.unit()
			}
			if r = utf16.DecodeRune(r, second); r == utf8.RuneError && p.err == nil {
				p.at = before // half of a pair stands for itself
			}
		}
		return utf8.AppendRune(s, r)
	}
	p.at--
	p.fail("an unknown escape in a string")
	return s
}

// unit reads four hexadecimal digits.
func (p *parser) unit() rune {
	if p.at+4 <= len(p.text) {
		if n, err := strconv.ParseUint(string(p.text[p.at:p.at+4]), 16, 16); err == nil {
			p.at += 4
			return rune(n)
		}
	}
	p.fail("want four hexadecimal digits")
	return utf8.RuneError
}
