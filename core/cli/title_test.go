package cli

import (
	"os"
	"strings"
	"testing"
)

func TestRetitle(t *testing.T) {
	for in, want := range map[string]string{
		"cleat\x00server\x00--token\x00abc\x00": "cleat\x00server" + strings.Repeat("\x00", len("\x00--token\x00abc\x00")),
		"/usr/bin/cleat\x00server\x00":          "/usr/bin/cleat\x00server\x00",
		"cleat\x00-tabc\x00":                    "cleat" + strings.Repeat("\x00", len("\x00-tabc\x00")),
		"cleat":                                 "cleat",
		"":                                      "",
	} {
		args := []byte(in)
		if retitle(args, "server"); string(args) != want {
			t.Errorf("%q became %q, want %q", in, args, want)
		}
	}
}

func TestBlank(t *testing.T) {
	for in, want := range map[string]string{
		"A=abc\x00CLEAT_TOKEN=abc\x00B=abc\x00": "A=abc\x00CLEAT_TOKEN=xxx\x00B=abc\x00",
		"CLEAT_TOKEN=a=b":                       "CLEAT_TOKEN=xxx",
		"CLEAT_TOKEN_FILE=abc\x00":              "CLEAT_TOKEN_FILE=abc\x00",
		"CLEAT_TOKEN\x00":                       "CLEAT_TOKEN\x00",
		"":                                      "",
	} {
		env := []byte(in)
		if blank(env, []string{"CLEAT_TOKEN"}); string(env) != want {
			t.Errorf("%q became %q, want %q", in, env, want)
		}
	}
}

func FuzzFindAreas(f *testing.F) {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(stat))
	f.Add("1 (a) b) S " + strings.Repeat("9 ", 60))
	f.Fuzz(func(t *testing.T, s string) {
		args, env, err := findAreas(s)
		for _, a := range []area{args, env} {
			if err == nil && (a.start <= 0 || a.end < a.start || a.end-a.start > maxArea) {
				t.Errorf("area %+v", a)
			}
		}
	})
}
