package admission

import (
	"strconv"
	"strings"
)

// Findings gathers reasons to refuse a request, so that one attempt is enough
// to learn them all, up to what fits a message. The zero Findings is empty.
type Findings struct {
	text  string
	count int
}

// told is how many findings a message tells; more are counted.
const told = 8

// Add adds a reason: field, value and way out.
func (f *Findings) Add(reason string) {
	f.count++
	if f.count > told {
		return
	}
	if f.count > 1 {
		f.text += "; also "
	}
	f.text += reason
}

// Message returns the reasons as one text, "" when there is none.
func (f *Findings) Message() string {
	if f.count > told {
		return f.text + "; and " + strconv.Itoa(f.count-told) + " more"
	}
	return f.text
}

// Quote makes text from a request fit for a message: in quotes, on one line, in
// UTF-8 and at most 100 bytes long.
func Quote(text []byte) string {
	const most = 100
	clean := strings.ToValidUTF8(string(text[:min(len(text), most)]), "?")
	clean = strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, clean)
	if len(text) > most {
		clean += "…"
	}
	return strconv.Quote(clean)
}
