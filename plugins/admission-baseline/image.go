package main

import "strings"

// pinned reports whether an image reference has a tag or digest. A colon before
// the last slash belongs to the registry's port.
func pinned(image []byte) bool {
	last := image
	for i, c := range image {
		switch c {
		case '/':
			last = image[i+1:]
		case '@':
			return i+1 < len(image)
		}
	}
	for i, c := range last {
		if c == ':' {
			return i+1 < len(last)
		}
	}
	return false
}

// shorten makes an image name from a request fit for a message: without the
// colon or at sign of an empty tag or digest, on one line, and not too long.
func shorten(image []byte) string {
	const most = 100
	name := strings.TrimRight(string(image[:min(len(image), most)]), ":@")
	name = strings.ToValidUTF8(name, "?")
	return strings.Map(func(r rune) rune {
		if r < 0x20 || r == 0x7f {
			return '?'
		}
		return r
	}, name)
}
