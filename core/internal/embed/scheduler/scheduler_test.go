package scheduler

import (
	"strings"
	"testing"
)

func TestNew(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string // in the error, "" is none
	}{
		{[]string{"--leader-elect=false", "--profiling=false", "--bind-address=127.0.0.1", "--kubeconfig=/k"}, ""},
		{[]string{"--no-such-flag=1"}, "no-such-flag"},
		{[]string{"--profiling=perhaps"}, "profiling"},
		{[]string{"--leader-elect=false", "--leader-elect=true"}, "leader-elect"},
	} {
		_, err := New(tt.args)
		if tt.want == "" {
			if err != nil {
				t.Errorf("%q: %v", tt.args, err)
			}
			continue
		}
		if err == nil || !strings.Contains(err.Error(), "--kube-scheduler-arg") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error that names the option and %s", tt.args, err, tt.want)
		}
	}
}
