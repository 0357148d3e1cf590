package pluginhost

import (
	"bytes"
	"log/slog"
	"strings"
)

// Bounds on what a guest may write to standard output and error.
const (
	maxLine      = 4 << 10
	maxLines     = 100 // of one call
	maxLastWords = 400
	// maxOutput is how many bytes of a call are looked at, for each of the two.
	maxOutput = 256 << 10
)

// stdio turns what a guest writes to descriptors 1 and 2 into log lines and
// remembers the first line of standard error, where a crashing runtime says why.
type stdio struct {
	log   *slog.Logger
	line  [2][]byte
	seen  [2]int // bytes
	lines int
	last  string
}

func (s *stdio) reset() { s.seen, s.lines, s.last = [2]int{}, 0, "" }

// write takes bytes for descriptor fd (1 or 2). Once they are too many, or
// their lines, the rest is dropped without being looked at.
func (s *stdio) write(fd uint32, data []byte) {
	buf, seen := &s.line[fd-1], &s.seen[fd-1]
	data = data[:min(len(data), maxOutput-*seen)]
	for len(data) > 0 && s.listens(fd) {
		part, rest, newline := bytes.Cut(data, []byte{'\n'})
		room := maxLine - len(*buf)
		*buf = append(*buf, part[:min(len(part), room)]...)
		*seen += len(data) - len(rest)
		data = rest
		if newline {
			s.emit(fd)
		}
	}
}

// listens reports whether anything becomes of what is written to fd.
func (s *stdio) listens(fd uint32) bool {
	return s.lines < maxLines || fd == 2 && s.last == ""
}

func (s *stdio) emit(fd uint32) {
	buf := &s.line[fd-1]
	text := oneLine(strings.ToValidUTF8(string(*buf), "�"))
	*buf = (*buf)[:0]
	if text == "" {
		return
	}
	if fd == 2 && s.last == "" {
		s.last = cut(text, maxLastWords)
	}
	s.lines++
	switch {
	case s.lines > maxLines:
	case s.lines == maxLines:
		s.log.WarnContext(fromGuest(), "plugin writes too much, the rest of this call is dropped", "lines", maxLines)
	case fd == 2:
		s.log.WarnContext(fromGuest(), text, "stream", "stderr")
	default:
		s.log.InfoContext(fromGuest(), text, "stream", "stdout")
	}
}

// flush logs what was written without a final newline.
func (s *stdio) flush() {
	s.emit(1)
	s.emit(2)
}

// lastWords returns the first line of standard error since reset.
func (s *stdio) lastWords() string {
	s.flush()
	return s.last
}
