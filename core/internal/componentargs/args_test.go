package componentargs

import (
	"slices"
	"testing"
)

func TestMerge(t *testing.T) {
	defaults := map[string]string{"profiling": "false", "v": "2", "bind-address": "127.0.0.1"}
	tests := []struct {
		name  string
		extra []string
		want  []string
	}{
		{"defaults alone, sorted", nil, []string{"--bind-address=127.0.0.1", "--profiling=false", "--v=2"}},
		{"an operator's value replaces", []string{"v=4"}, []string{"--bind-address=127.0.0.1", "--profiling=false", "--v=4"}},
		{"dashes are forgiven", []string{"--v=4"}, []string{"--bind-address=127.0.0.1", "--profiling=false", "--v=4"}},
		{"a bare key is true", []string{"profiling"}, []string{"--bind-address=127.0.0.1", "--v=2", "--profiling=true"}},
		{"a repeated key repeats", []string{"x=1", "x=2=3"}, []string{"--bind-address=127.0.0.1", "--profiling=false", "--v=2", "--x=1", "--x=2=3"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Merge(defaults, tt.extra); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestValue(t *testing.T) {
	defaults := map[string]string{"proxy-mode": "nftables"}
	if got := Value("proxy-mode", defaults, nil); got != "nftables" {
		t.Errorf("default: got %q", got)
	}
	if got := Value("proxy-mode", defaults, []string{"proxy-mode=ipvs", "--proxy-mode=iptables"}); got != "iptables" {
		t.Errorf("the last one named wins: got %q", got)
	}
}
