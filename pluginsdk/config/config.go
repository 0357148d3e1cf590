// Package config reads a plugin's configuration without encoding/json, for
// guests that want to stay small. It knows what a manifest's config_schema can
// describe: strings, whole numbers, booleans, lists of strings, and maps from
// string to string.
package config

import (
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/cleat-dev/cleat/pluginsdk"
)

// Config is a configuration. The zero Config is an empty one.
type Config struct{ fields []field }

type field struct {
	key   string
	value value
}

type value struct {
	kind    kind
	text    string
	number  int64
	truth   bool
	list    []string
	entries []Entry
}

type kind byte

const (
	kindString kind = iota + 1
	kindInteger
	kindBool
	kindStrings
	kindMap
)

// Entry is one entry of a map.
type Entry struct{ Key, Value string }

// Read returns the configuration from the lock, which the host has checked
// against the manifest. It is available from OnInit on.
func Read() (Config, error) {
	text, err := pluginsdk.Config()
	if err != nil {
		return Config{}, err
	}
	return Parse(text)
}

func (c Config) find(key string, kind kind) value {
	for _, f := range c.fields {
		if f.key == key && f.value.kind == kind {
			return f.value
		}
	}
	return value{}
}

// Has reports whether a key has a value.
func (c Config) Has(key string) bool {
	for _, f := range c.fields {
		if f.key == key {
			return true
		}
	}
	return false
}

// String returns the value of a key of type string, "" when there is none.
func (c Config) String(key string) string { return c.find(key, kindString).text }

// Int returns the value of a key of type integer, 0 when there is none.
func (c Config) Int(key string) int64 { return c.find(key, kindInteger).number }

// Bool returns the value of a key of type bool, false when there is none.
func (c Config) Bool(key string) bool { return c.find(key, kindBool).truth }

// Strings returns the value of a key of type strings, nil when there is none.
func (c Config) Strings(key string) []string { return c.find(key, kindStrings).list }

// Map returns the entries of a key of type map, in the order of their keys.
func (c Config) Map(key string) []Entry { return c.find(key, kindMap).entries }

// maxBytes is how large the host lets a configuration be.
const maxBytes = 64 << 10

// Parse reads a configuration from JSON text. What config_schema cannot
// describe is an error, and so is a key that is there twice.
func Parse(text []byte) (Config, error) {
	if len(text) > maxBytes {
		return Config{}, errors.New("configuration: over 64 KiB")
	}
	if !utf8.Valid(text) {
		return Config{}, errors.New("configuration: not UTF-8")
	}
	p := parser{text: text}
	var c Config
	p.object(func(key string) {
		if c.Has(key) {
			p.fail("a key that is there twice")
		}
		c.fields = append(c.fields, field{key, p.value()})
	})
	if p.space(); p.err == nil && p.at < len(text) {
		p.fail("text after the end")
	}
	if p.err != nil {
		return Config{}, p.err
	}
	return c, nil
}

// parser remembers its first error; from then on it is at the end of the text.
type parser struct {
	text []byte
	at   int
	err  error
}

func (p *parser) fail(what string) {
	if p.err == nil {
		p.err = errors.New("configuration: at byte " + strconv.Itoa(p.at) + ": " + what)
		p.at = len(p.text)
	}
}

func (p *parser) space() {
	for p.at < len(p.text) {
		switch p.text[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

// peek returns the next byte that is no space, 0 at the end.
func (p *parser) peek() byte {
	p.space()
	if p.at == len(p.text) {
		return 0
	}
	return p.text[p.at]
}

// take goes over c, if it is next.
func (p *parser) take(c byte) bool {
	if p.peek() != c || p.err != nil {
		return false
	}
	p.at++
	return true
}

func (p *parser) want(c byte) {
	if !p.take(c) {
		p.fail("want " + strconv.QuoteRune(rune(c)))
	}
}

// object reads an object; member reads the value of one key.
func (p *parser) object(member func(key string)) {
	p.want('{')
	if p.take('}') {
		return
	}
	for p.err == nil {
		key := p.string()
		p.want(':')
		member(key)
		if !p.take(',') {
			p.want('}')
			return
		}
	}
}

func (p *parser) value() value {
	switch c := p.peek(); {
	case c == '"':
		return value{kind: kindString, text: p.string()}
	case c == '[':
		return value{kind: kindStrings, list: p.strings()}
	case c == '{':
		return value{kind: kindMap, entries: p.entries()}
	case c == '-' || c >= '0' && c <= '9':
		return value{kind: kindInteger, number: p.integer()}
	case p.word("true"):
		return value{kind: kindBool, truth: true}
	case p.word("false"):
		return value{kind: kindBool}
	}
	p.fail("want a string, whole number, boolean, list of strings or map of strings")
	return value{}
}

func (p *parser) word(word string) bool {
	if len(p.text)-p.at < len(word) || string(p.text[p.at:p.at+len(word)]) != word {
		return false
	}
	p.at += len(word)
	return true
}

func (p *parser) strings() []string {
	list := []string{}
	p.want('[')
	if p.take(']') {
		return list
	}
	for p.err == nil {
		list = append(list, p.string())
		if !p.take(',') {
			p.want(']')
			break
		}
	}
	return list
}

func (p *parser) entries() []Entry {
	entries := []Entry{}
	p.object(func(key string) {
		// The place of the key keeps the order, and finds one that is there
		// twice.
		at := len(entries)
		for at > 0 && entries[at-1].Key >= key {
			at--
		}
		if at < len(entries) && entries[at].Key == key {
			p.fail("a key that is there twice")
			return
		}
		entries = append(entries, Entry{})
		copy(entries[at+1:], entries[at:])
		entries[at] = Entry{key, p.string()}
	})
	return entries
}

func (p *parser) integer() int64 {
	start := p.at
	if p.text[p.at] == '-' {
		p.at++
	}
	digits := p.at
	for p.at < len(p.text) && p.text[p.at] >= '0' && p.text[p.at] <= '9' {
		p.at++
	}
	if p.at < len(p.text) {
		switch p.text[p.at] {
		case '.', 'e', 'E':
			p.fail("a number that is not whole")
			return 0
		}
	}
	n, err := strconv.ParseInt(string(p.text[start:p.at]), 10, 64)
	if err != nil || p.text[digits] == '0' && p.at > digits+1 {
		p.fail("a number that is malformed or too large")
		return 0
	}
	return n
}
