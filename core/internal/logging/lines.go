package logging

import (
	"bytes"
	"context"
	"log/slog"
	"sync"
)

// maxLine bounds what a writer without newlines can make us hold. A longer
// line is logged in pieces.
const maxLine = 16 << 10

// LineWriter is an io.WriteCloser that logs every line written to it. It is
// safe for concurrent use; the writers' lines are then mixed line by line only
// if each Write holds whole lines.
type LineWriter struct {
	log   *slog.Logger
	level slog.Level

	mu   sync.Mutex
	part []byte // the line begun and not ended
}

// Lines returns a LineWriter that logs to l at the given level, such as for
// the standard error of a child process or of a guest.
func Lines(l *slog.Logger, level slog.Level) *LineWriter {
	return &LineWriter{log: l, level: level}
}

// Write logs the complete lines of p and keeps the rest. It never fails.
func (w *LineWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := len(p)
	for {
		line, rest, found := bytes.Cut(p, []byte{'\n'})
		if !found {
			break
		}
		w.add(line)
		w.flush()
		p = rest
	}
	w.add(p)
	return n, nil
}

// Close logs a last line that had no newline.
func (w *LineWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flush()
	return nil
}

func (w *LineWriter) add(p []byte) {
	for len(w.part)+len(p) > maxLine {
		room := maxLine - len(w.part)
		w.part = append(w.part, p[:room]...)
		p = p[room:]
		w.flush()
	}
	w.part = append(w.part, p...)
}

func (w *LineWriter) flush() {
	line := bytes.TrimRight(w.part, "\r\n\t ")
	if len(line) > 0 {
		w.log.Log(context.Background(), w.level, string(line))
	}
	w.part = w.part[:0]
}
