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
)

// stdio turns what a guest writes to descriptors 1 and 2 into log lines and
// remembers the first line of standard error, where a crashing runtime says why.
type stdio struct {
	log   *slog.Logger
	line  [2][]byte
	lines int
	last  string
}

func (s *stdio) reset() { s.lines, s.last = 0, "" }

// write takes bytes for descriptor fd (1 or 2).
func (s *stdio) write(fd uint32, data []byte) {
	buf := &s.line[fd-1]
	for len(data) > 0 {
		part, rest, newline := bytes.Cut(data, []byte{'\n'})
		room := maxLine - len(*buf)
		*buf = append(*buf, part[:min(len(part), room)]...)
		data = rest
		if newline {
			s.emit(fd)
		}
	}
}

func (s *stdio) emit(fd uint32) {
	buf := &s.line[fd-1]
	text := strings.ToValidUTF8(strings.TrimSpace(string(*buf)), "�")
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
		s.log.Warn("plugin writes too much, the rest of this call is dropped", "lines", maxLines)
	case fd == 2:
		s.log.Warn(text, "stream", "stderr")
	default:
		s.log.Info(text, "stream", "stdout")
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
