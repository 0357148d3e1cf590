package config

import (
	"errors"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	for _, x := range []struct {
		name, value string
		want        string // part of the error, "" if the value is good
	}{
		{"log-format", "xml", "write auto, text or json"},
		{"v", "4", ""},
		{"v", "-1", "write a number from 0 to 10"},
		{"alsologtostderr", "true", "give a file with --log"},
		{"write-kubeconfig-group", "staff", "cannot read a file of mode 0600; set --write-kubeconfig-mode 0640"},
		{"flannel-iface", "eth0", ""},
		{"flannel-iface", "a/b", "not a link's name"},
		{"image-service-endpoint", "unix:///run/images.sock", ""},
		{"image-service-endpoint", "tcp://a:1", "not a unix socket"},
		{"default-runtime", "nvidia_cdi", ""},
		{"default-runtime", "a b", "not a runtime's name"},
		{"image-credential-provider-config", "/etc/c.yaml", "the kubelet wants both"},
		{"image-credential-provider-bin-dir", "/opt/c", "the kubelet wants both"},
		{"data-dir", "/", "name a directory below it"},
		{"token", "two words", "--token: holds white space"},
		{"certificate-lifetime", "720h", ""},
		{"certificate-lifetime", "30s", ""},
		{"certificate-lifetime", "29s", `--certificate-lifetime "29s": write a time from 30s to 87600h`},
		{"certificate-lifetime", "100000h", `"100000h": write a time`},
		{"write-kubeconfig-mode", "0640", ""},
		{"write-kubeconfig-mode", "644", ""},
		{"write-kubeconfig-mode", "rw", `--write-kubeconfig-mode "rw": not an octal file mode`},
		{"write-kubeconfig-mode", "0888", "not an octal file mode"},
		{"write-kubeconfig-mode", "01777", "not an octal file mode"},
		{"write-kubeconfig-mode", "0040", "its owner could not read"},

		{"bind-address", "::", ""},
		{"bind-address", "localhost", "not an IP address"},
		{"advertise-address", "0.0.0.0", "stands for every address"},
		{"https-listen-port", "0", "write a number from 1 to 65535"},
		{"https-listen-port", "65536", "write a number from 1 to 65535"},
		{"tls-san", "api.example.org,*.example.org,192.0.2.1,fd00::1", ""},
		{"tls-san", "https://api", "without scheme and port"},

		{"cluster-cidr", "10.42.0.0/40", "not a range of addresses; write one such as 10.42.0.0/16"},
		{"cluster-cidr", "10.42.1.0/16", "write 10.42.0.0/16"},
		{"cluster-cidr", "10.1.0.0/16,10.2.0.0/16", "one of IPv4 and one of IPv6"},
		{"cluster-cidr", "10.42.0.0/16,fd77::/48", "not of the same IP families"},
		{"cluster-cidr", "10.43.128.0/17", "overlaps --cluster-cidr 10.43.128.0/17"},
		{"cluster-cidr", "10.42.0.0/25", "each node takes a /24"},
		{"cluster-cidr", "::ffff:10.42.0.0/112", "write it as IPv4"},
		{"service-cidr", "10.0.0.0/8", "too large"},
		{"service-cidr", "10.43.0.0/30", "too small"},
		{"service-cidr", "10.99.0.0/24", ""},
		{"cluster-dns", "10.43.7.7", ""},
		{"cluster-dns", "10.44.0.10", "outside --service-cidr 10.43.0.0/16"},
		{"cluster-dns", "10.43.0.1", "belongs to the kubernetes service"},
		{"cluster-dns", "10.43.0.0", "the first address of its range"},
		{"cluster-dns", "dns", "not an IP address"},
		{"cluster-dns", "10.43.0.10,10.43.0.11", "a second address of its family"},
		{"cluster-domain", "corp.example", ""},
		{"cluster-domain", "Cluster_Local", "not a DNS domain"},
		{"service-node-port-range", "80-32767", ""},
		{"service-node-port-range", "32767", "write low-high"},
		{"service-node-port-range", "9-1", "write low-high"},
		{"service-node-port-range", "1-70000", "write low-high"},
		{"flannel-backend", "Host GW", "not a name"},
		{"cni", "../evil", "not a name"},

		{"disable", "coredns,metrics-server", ""},
		{"disable", "../coredns", "write the base name of its manifest"},
		{"kubelet-arg", "max-pods=200", ""},
		{"kubelet-arg", "eviction-hard=memory.available<5%,x=y", ""},
		{"kubelet-arg", "--max-pods=200", `write "max-pods=200"`},
		{"kube-apiserver-arg", "profiling", `such as "profiling=true"`},
		{"kube-scheduler-arg", "=x", "the key is not a flag's name"},

		{"node-name", "n1.example.org", ""},
		{"node-name", "Node_1", "not a node's name"},
		{"node-ip", "192.0.2.10", ""},
		{"node-ip", "192.0.2.99", "on no interface of this machine, which has 192.0.2.10, fd00::10, 198.51.100.7"},
		{"node-ip", "127.0.0.1", "other machines cannot reach"},
		{"node-ip", "10.42.0.1", "lies in --cluster-cidr"},
		{"node-ip", "host", "not an IP address"},
		{"node-ip", "fd00::10", "has no address of a family"},
		{"node-ip", "192.0.2.10,198.51.100.7", "one of IPv4 and one of IPv6"},
		{"node-label", "example.org/rack=r1,empty=", ""},
		{"node-label", "rack", `write key=value, or "rack="`},
		{"node-label", "bad key=x", "the key:"},
		{"node-label", "a=b c", "the value:"},
		{"node-label", "node-role.kubernetes.io/worker=true", "cleat kubectl label node"},
		{"node-label", "topology.kubernetes.io/zone=z1,node.kubernetes.io/x=y", ""},
		{"node-taint", "a=b:NoSchedule,key:NoExecute", ""},
		{"node-taint", "a=b", "has no effect"},
		{"node-taint", "a=b:Never", `unknown effect "Never"`},
		{"node-taint", ":NoSchedule", "the key:"},
		{"snapshotter", "", "not a snapshotter's name"},
		{"pause-image", "", "leave the flag out for cleat.dev/pause"},
		{"container-runtime-endpoint", "unix:///run/crio.sock", ""},
		{"container-runtime-endpoint", "/run/crio.sock", ""},
		{"container-runtime-endpoint", "tcp://host:1", "not a unix socket"},
	} {
		t.Run(x.name+"="+x.value, func(t *testing.T) {
			err := detected(t, fakeMachine(t), x.name, x.value).Validate()
			if x.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("error %v, want it to say %q", err, x.want)
			}
		})
	}
}

func TestValidateBeforeDetect(t *testing.T) {
	if err := load(t).Validate(); err != nil {
		t.Errorf("defaults: %v", err)
	}
	if err := load(t, "node-name", "A B", "node-ip", "x").Validate(); err == nil || strings.Count(err.Error(), "\n") != 1 {
		t.Errorf("two bad values: %v", err)
	}
}

func TestValidateJoinsErrors(t *testing.T) {
	c := detected(t, fakeMachine(t), "log-format", "xml", "tls-san", "a b", "node-taint", "x", "token", "secret word")
	err := c.Validate()
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok || len(joined.Unwrap()) != 4 {
		t.Fatalf("error %v", err)
	}
	for _, e := range joined.Unwrap() {
		var oe *OptionError
		if !errors.As(e, &oe) || oe.Origin != "--"+oe.Name {
			t.Errorf("%#v", e)
		}
	}
	if strings.Contains(err.Error(), "secret") {
		t.Errorf("shows the token: %v", err)
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	file := write(t, t.TempDir(), "config.yaml", "\nhttps-listen-port: 70000\n")
	c := detected(t, fakeMachine(t), "config", file)
	want := `--https-listen-port "70000" (` + file + `:2): not a port`
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func TestTokenGivenTwice(t *testing.T) {
	c := detected(t, fakeMachine(t), "token", "a", "token-file", "/t")
	if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "give one of them") {
		t.Errorf("error %v", err)
	}
}

func TestNodeMaskByArgument(t *testing.T) {
	c := detected(t, fakeMachine(t), "cluster-cidr", "10.42.0.0/25", "kube-controller-manager-arg", "node-cidr-mask-size=26")
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}

func TestForeignRuntimeHasNoOptionsOfOurs(t *testing.T) {
	c := detected(t, fakeMachine(t), "container-runtime-endpoint", "/run/crio.sock", "default-runtime", "crun", "nonroot-devices", "true",
		"disable-default-registry-endpoint", "true")
	if err := c.Validate(); err == nil || strings.Count(err.Error(), "has no effect on the runtime that --container-runtime-endpoint names") != 3 {
		t.Errorf("error %v", err)
	}
}

func TestControlPlaneOnlyNeedsNoNode(t *testing.T) {
	m := fakeMachine(t)
	m.fsMagic = func(string) (int64, error) { return 0, errors.New("no cgroups here") }
	c := detected(t, m, "disable-agent", "true", "pause-image", "", "snapshotter", "")
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
}
