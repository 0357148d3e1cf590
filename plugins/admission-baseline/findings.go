package main

import "strconv"

// findings are the reasons to refuse a pod. All are told at once, so that one
// attempt is enough to learn them, up to what fits a message.
type findings struct {
	text  string
	count int
}

const told = 8

func (f *findings) add(text string) {
	f.count++
	if f.count > told {
		return
	}
	if f.count > 1 {
		f.text += "; also "
	}
	f.text += text
}

// message returns the text of a denial, "" if there is nothing to refuse.
func (f *findings) message() string {
	if f.count > told {
		return f.text + "; and " + strconv.Itoa(f.count-told) + " more"
	}
	return f.text
}
