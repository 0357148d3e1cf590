package nodepassword

import (
	"bytes"
	"strings"
	"testing"
	"time"
)

func TestRecord(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 6, time.FixedZone("", 3600))
	r, err := New("0123456789abcdef", now)
	if err != nil {
		t.Fatal(err)
	}
	text, err := r.Marshal()
	if err != nil || bytes.Contains(text, []byte("0123456789abcdef")) {
		t.Fatalf("%s, %v", text, err)
	}
	again, err := Parse(text)
	if err != nil || !again.Created.Equal(now.Truncate(time.Second)) || !again.Seen.Equal(again.Created) {
		t.Fatalf("%+v, %v", again, err)
	}
	for password, want := range map[string]bool{"0123456789abcdef": true, "0123456789abcdeg": false, "": false} {
		if ok, err := again.Matches(password); ok != want || err != nil {
			t.Errorf("%q: %v, %v", password, ok, err)
		}
		if same := again.Digest(password) == r.Digest("0123456789abcdef"); same != want {
			t.Errorf("digest of %q: %v", password, same)
		}
	}
	other, err := New("0123456789abcdef", now)
	if err != nil || other.Digest("0123456789abcdef") == r.Digest("0123456789abcdef") {
		t.Errorf("two records of one password have one digest, %v", err)
	}
}

// A record of the first version has no times, and stays good.
func TestRecordWithoutTimes(t *testing.T) {
	r, err := New("0123456789abcdef", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	r.Created, r.Seen = time.Time{}, time.Time{}
	text, err := r.Marshal()
	if err != nil || strings.Contains(string(text), "seen") {
		t.Fatalf("%s, %v", text, err)
	}
	again, err := Parse(text)
	if ok, matchErr := again.Matches("0123456789abcdef"); err != nil || matchErr != nil || !ok {
		t.Errorf("%+v, %v, %v", again, err, matchErr)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(`{"version":1,"salt":"AAAAAAAAAAAAAAAAAAAAAA==","hash":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=","seen":"2030-01-02T03:04:05Z"}`))
	f.Add([]byte(`{"version":2}`))
	f.Add(bytes.Repeat([]byte(" "), maxRecord+1))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := Parse(text)
		if err != nil {
			return
		}
		if len(r.Salt) != saltLen || len(r.Hash) != hashLen {
			t.Fatalf("accepted %+v", r)
		}
		if _, err := r.Marshal(); err != nil {
			t.Fatal(err)
		}
		if ok, _ := r.Matches("x"); ok {
			t.Fatalf("%q matches", text)
		}
	})
}
