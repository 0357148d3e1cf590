package joinapi

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func TestParseServers(t *testing.T) {
	got, err := ParseServers([]byte(`{"servers":["10.0.0.2:6443","[fd00::1]:6443","10.0.0.1:7443","10.0.0.2:6443"],"of":"the future"}`))
	if want := []string{"10.0.0.1:7443", "10.0.0.2:6443", "[fd00::1]:6443"}; err != nil || !slices.Equal(got.Servers, want) {
		t.Errorf("%v, %v; want %v", got, err, want)
	}
	var many []string
	for i := range MaxServers + 1 {
		many = append(many, fmt.Sprintf("%q", fmt.Sprintf("10.0.0.%d:6443", i+1)))
	}
	for text, want := range map[string]string{
		``:                                    "servers",
		`[]`:                                  "servers",
		`{}`:                                  "0 of them",
		`{"servers":["server:6443"]}`:         "server",
		`{"servers":["10.0.0.1"]}`:            "10.0.0.1",
		`{"servers":["10.0.0.1:0"]}`:          "port 0",
		`{"servers":["10.0.0.1:65536"]}`:      "65536",
		`{"servers":["127.0.0.1:6443"]}`:      "no node's",
		`{"servers":["0.0.0.0:6443"]}`:        "no node's",
		`{"servers":["[fe80::1%eth0]:1"]}`:    "plain",
		`{"servers":["[::ffff:10.0.0.1]:1"]}`: "plain",
		`{"servers":[` + strings.Join(many, ",") + `]}`: "33 of them",
		strings.Repeat(" ", MaxAnswerBody+1):            "bytes",
	} {
		if got, err := ParseServers([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.60s: %v, %v; want %q", text, got, err, want)
		}
	}
}

func FuzzParseServers(f *testing.F) {
	f.Add([]byte(`{"servers":["10.0.0.2:6443","[fd00::1]:6443"]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := ParseServers(text)
		if err != nil {
			return
		}
		if len(s.Servers) == 0 || len(s.Servers) > MaxServers {
			t.Fatalf("accepted %v", s)
		}
		again, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		if s2, err := ParseServers(again); err != nil || !reflect.DeepEqual(s, s2) {
			t.Fatalf("%v became %v, %v", s, s2, err)
		}
	})
}
