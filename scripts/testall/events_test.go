package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestCollect(t *testing.T) {
	const stream = `
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"quiet\n"}
{"Action":"pass","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestB","Output":"loud\n"}
{"Action":"output","Package":"p","Test":"TestB","Output":"    b_test.go:7: one is\n        not two\n"}
{"Action":"fail","Package":"p","Test":"TestB"}
{"Action":"fail","Package":"p","Elapsed":1.5}
{"Action":"pass","Package":"q","Test":"TestC/one"}
{"Action":"skip","Package":"q","Test":"TestD"}
{"Action":"pass","Package":"q","Elapsed":0.1}
{"ImportPath":"r","Action":"build-output","Output":"r.go:1: no\n"}
{"ImportPath":"r","Action":"build-fail"}
{"Action":"fail","Package":"r","FailedBuild":"r"}
`
	var out bytes.Buffer
	got, err := collect(strings.NewReader(stream), &out)
	if err != nil {
		t.Fatal(err)
	}
	if got.passed != 2 || !slices.Equal(got.failed, []string{"p TestB", "r"}) || !slices.Equal(got.skipped, []string{"q TestD"}) {
		t.Errorf("got %+v", got)
	}
	if want := []string{"    b_test.go:7: one is", ""}; !slices.Equal(got.reasons, want) {
		t.Errorf("reasons are %q, want %q", got.reasons, want)
	}
	for want, present := range map[string]bool{"loud": true, "quiet": false, "ok    q": true, "FAIL  p": true, "r.go:1: no": true} {
		if strings.Contains(out.String(), want) != present {
			t.Errorf("output has %q: %v\n%s", want, !present, out.String())
		}
	}
}

func TestCollectRefusesOtherOutput(t *testing.T) {
	if _, err := collect(strings.NewReader("go: no such module\n"), &bytes.Buffer{}); err == nil {
		t.Error("output that is no event was accepted")
	}
}

func TestModulesFindsTheRepository(t *testing.T) {
	dirs, err := modules("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"../..", "../../hostabi", "../../bundle/pack"} {
		if !slices.Contains(dirs, want) {
			t.Errorf("%s is missing from %v", want, dirs)
		}
	}
}
