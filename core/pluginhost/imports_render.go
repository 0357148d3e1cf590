package pluginhost

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/cleat-dev/cleat/hostabi"
)

// maxDocuments bounds the documents of one stream.
const maxDocuments = 4096

func renderFunctions() map[string]hostFunc {
	return map[string]hostFunc{"render_yaml": renderYAML, "render_helm": renderHelm, "render_kustomize": renderKustomize}
}

func renderYAML(in *instance, stack []uint64) {
	most, mostParts := uint32(hostabi.MaxValueBytes), maxPartsOfRequest
	if in.call.hook.plan() {
		most, mostParts = hostabi.MaxMessageBytes, maxParts
	}
	if uint32(stack[1]) > most {
		fail(stack, hostabi.E2BIG)
		return
	}
	data, ok := in.mem.Read(uint32(stack[0]), uint32(stack[1]))
	if !ok {
		fail(stack, hostabi.EINVAL)
		return
	}
	// A guest whose buffer was too small asks again with the same text.
	if in.rendered == nil || !bytes.Equal(in.renderedFrom, data) {
		text, err := documents(data, mostParts, in.ctx.deadline)
		if err != nil {
			in.call.errText = oneLine(cut(err.Error(), hostabi.MaxTextBytes))
			fail(stack, hostabi.EINVAL)
			return
		}
		in.rendered, in.renderedFrom = text, bytes.Clone(data)
	}
	if len(in.rendered) > hostabi.MaxMessageBytes {
		fail(stack, hostabi.E2BIG)
		return
	}
	in.fill(stack, uint32(stack[2]), uint32(stack[3]), in.rendered)
}

// documents parses a stream of YAML or JSON documents into one canonical JSON
// array, until the deadline. mostParts bounds the values in it.
func documents(stream []byte, mostParts int, deadline time.Time) ([]byte, error) {
	if parts(stream) > mostParts {
		return nil, errParts(mostParts)
	}
	list := []any{}
	left := maxValues
	for n, r := 1, newDocumentReader(stream); ; n++ {
		doc, err := r.next()
		if errors.Is(err, io.EOF) {
			return hostabi.AppendJSON(nil, list)
		}
		if err != nil {
			return nil, err
		}
		if n > maxDocuments {
			return nil, fmt.Errorf("more than %d documents", maxDocuments)
		}
		value, err := document(doc, deadline, &left)
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
		list = append(list, value)
	}
}

// document parses one document. What looks like JSON and is JSON is read as
// such, because a YAML reader stumbles over its tabs. left is how many values
// there may still be.
func document(doc []byte, deadline time.Time, left *int) (any, error) {
	if trimmed := bytes.TrimSpace(doc); len(trimmed) > 0 && trimmed[0] == '{' {
		if value, err := hostabi.ParseJSON(trimmed); err == nil {
			return value, nil
		}
	}
	return parseYAML(doc, deadline, left)
}

// documentReader splits a stream at lines that begin with "---" or "...", as
// YAML does.
type documentReader struct {
	lines *bufio.Reader
	first bool
	done  bool
	tail  []byte // what followed the marker that ended the last document
}

func newDocumentReader(stream []byte) *documentReader {
	stream = bytes.TrimPrefix(stream, []byte("\xef\xbb\xbf"))
	return &documentReader{lines: bufio.NewReader(bytes.NewReader(stream)), first: true}
}

// next returns the next document, io.EOF at the end. A marker at the very
// beginning opens the first document and makes no empty one before it.
func (r *documentReader) next() ([]byte, error) {
	if r.done {
		return nil, io.EOF
	}
	doc := r.tail
	r.tail = nil
	for {
		line, err := r.lines.ReadBytes('\n')
		if err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if rest, ok := marker(line); ok {
			if r.first && onlyComments(doc) {
				doc = rest
				r.first = false
			} else {
				r.first = false
				r.tail = rest
				return doc, nil
			}
		} else {
			doc = append(doc, line...)
		}
		if err != nil {
			r.done = true
			if r.first && onlyComments(doc) {
				return nil, io.EOF
			}
			return doc, nil
		}
	}
}

// marker reports whether the line separates documents and returns what stands
// behind it.
func marker(line []byte) (rest []byte, ok bool) {
	rest, ok = bytes.CutPrefix(line, []byte("---"))
	if !ok {
		rest, ok = bytes.CutPrefix(line, []byte("..."))
	}
	if !ok || len(rest) > 0 && !bytes.ContainsRune([]byte(" \t\r\n"), rune(rest[0])) {
		return nil, false
	}
	return bytes.Clone(rest), true
}

func onlyComments(doc []byte) bool {
	for line := range bytes.Lines(doc) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' {
			return false
		}
	}
	return true
}
