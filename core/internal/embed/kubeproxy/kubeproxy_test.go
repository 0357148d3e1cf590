package kubeproxy

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the error, "" is none
	}{
		{[]string{"--proxy-mode=nftables", "--conntrack-min=0", "--conntrack-tcp-timeout-established=0s", "--kubeconfig=/k"}, ""},
		{[]string{"--no-such-flag=1"}, "no-such-flag"},
		{[]string{"--profiling=perhaps"}, "profiling"},
	} {
		_, err := New(tt.args)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%q: %v", tt.args, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "--kube-proxy-arg") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error that names the option and %s", tt.args, err, tt.want)
		}
	}
}
