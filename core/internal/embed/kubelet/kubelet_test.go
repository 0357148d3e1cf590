package kubelet

import (
	"strings"
	"testing"

	kubeletconfig "k8s.io/kubelet/config/v1beta1"
)

func TestNewRefuses(t *testing.T) {
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--no-such-flag=1"}, "no-such-flag"},
		{[]string{"--max-pods=many"}, "max-pods"},
		{[]string{"--node-labels=kubernetes.io/not-a-kubelet-label=x"}, "kubernetes.io/not-a-kubelet-label"},
		{[]string{"--config=/etc/kubelet.yaml"}, "config"},
		{[]string{"--config-dir=/etc/kubelet.d"}, "config-dir"},
	} {
		_, err := New(&kubeletconfig.KubeletConfiguration{}, tt.args)
		if err == nil || !strings.Contains(err.Error(), "--kubelet-arg") || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: got %v, want an error that names the option and %s", tt.args, err, tt.want)
		}
	}
}

func TestArgumentsWin(t *testing.T) {
	no := false
	config := &kubeletconfig.KubeletConfiguration{
		MaxPods: 50, SerializeImagePulls: &no, ClusterDomain: "cluster.local",
		Authentication: kubeletconfig.KubeletAuthentication{Anonymous: kubeletconfig.KubeletAnonymousAuthentication{Enabled: &no}},
	}
	k, err := New(config, []string{"--max-pods=200", "--hostname-override=n1"})
	if err != nil {
		t.Fatal(err)
	}
	got := k.server
	if got.MaxPods != 200 {
		t.Errorf("maxPods %d, want the argument's 200", got.MaxPods)
	}
	if got.ClusterDomain != "cluster.local" || got.SerializeImagePulls || got.Authentication.Anonymous.Enabled {
		t.Errorf("the configuration is lost: domain %q, serial pulls %t, anonymous %t", got.ClusterDomain, got.SerializeImagePulls, got.Authentication.Anonymous.Enabled)
	}
	if got.SyncFrequency.Duration == 0 {
		t.Error("what nobody sets has no default")
	}
	if got.HostnameOverride != "n1" {
		t.Errorf("hostname %q", got.HostnameOverride)
	}
	if config.MaxPods != 50 {
		t.Error("the configuration given was written to")
	}
}
