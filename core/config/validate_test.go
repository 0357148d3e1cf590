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
		{"cluster-cidr", "10.42.0.0/24", ""},
		{"cluster-cidr", "10.42.0.0/25", `--cluster-cidr "10.42.0.0/25": too small for one node: each node takes a /24 of it; use a /24 or wider, ` +
			"or smaller shares by --kube-controller-manager-arg node-cidr-mask-size=N, N from 25 to 30"},
		{"cluster-cidr", "10.42.0.0/31", "too small for one node; use a /24 or wider"},
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
		{"egress-selector-mode", "pod", ""},
		{"egress-selector-mode", "Pod", "write agent, pod, cluster or disabled"},

		{"disable", "coredns,metrics-server", ""},
		{"disable", "../coredns", "write the base name of its manifest"},
		{"kubelet-arg", "max-pods=200", ""},
		{"kubelet-arg", "eviction-hard=memory.available<5%,x=y", ""},
		{"kubelet-arg", "--max-pods=200", `write "max-pods=200"`},
		{"kube-apiserver-arg", "profiling", `such as "profiling=true"`},
		{"kube-scheduler-arg", "=x", "the key is not a flag's name"},

		{"node-name", "n1.example.org", ""},
		{"node-name", "Node_1", "not a node's name"},
		{"node-external-ip", "203.0.113.1,2001:db8::1", ""},
		{"node-external-ip", "x", "not an IP address"},
		{"node-external-ip", "127.0.0.1", "other machines cannot reach"},
		{"node-external-ip", "10.43.0.1", "lies in --cluster-cidr or --service-cidr"},
		{"node-external-ip", "203.0.113.1,203.0.113.2", "give one address, or one of IPv4 and one of IPv6"},
		{"node-external-dns", "n1.example.com", ""},
		{"node-external-dns", "N 1", "not a DNS name"},
		{"node-internal-dns", "a,b,c,d,e,f,g,h,i", "more than 8 names"},
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
	for _, name := range []string{"token", "agent-token"} {
		c := detected(t, fakeMachine(t), name, "a", name+"-file", "/t")
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), "give one of them") || !strings.Contains(err.Error(), "--"+name+"-file") {
			t.Errorf("error %v", err)
		}
	}
}

// TestNodeMasks: what the controller manager could not cut shares out of is refused.
func TestNodeMasks(t *testing.T) {
	const services4, services6 = "10.43.0.0/16", "fd43::/112"
	for _, x := range []struct {
		name, pods string
		args       []string // of the controller manager
		want       string   // part of the error, "" if it is good
	}{
		{"smaller shares", "10.42.0.0/25", []string{"node-cidr-mask-size=26"}, ""},
		{"one share", "10.42.0.0/25", []string{"node-cidr-mask-size=25"}, ""},
		{"the smallest share", "10.42.0.0/28", []string{"node-cidr-mask-size=30"}, ""},
		{"by family", "10.42.0.0/28", []string{"node-cidr-mask-size-ipv4=29"}, ""},
		{"the last one counts", "10.42.0.0/25", []string{"node-cidr-mask-size=24", "node-cidr-mask-size=26"}, ""},
		{"the flag's own default", "10.42.0.0/16", []string{"node-cidr-mask-size=0"}, ""},
		{"a wide range", "10.0.0.0/11", nil, ""},
		{"larger shares", "10.42.0.0/16", []string{"node-cidr-mask-size=15"}, "each node takes a /15 of it; use a /15 or wider"},
		{"no address for pods", "10.42.0.0/16", []string{"node-cidr-mask-size=31"}, `"node-cidr-mask-size=31": leaves a node no address for a pod; write at most 30`},
		{"no mask", "10.42.0.0/16", []string{"node-cidr-mask-size=/26"}, "not a number of bits; write one such as node-cidr-mask-size=26"},
		{"negative", "10.42.0.0/16", []string{"node-cidr-mask-size=-1"}, "not a number of bits"},
		{"another family's", "10.42.0.0/16", []string{"node-cidr-mask-size-ipv6=80"}, "has no such family; give node-cidr-mask-size-ipv4=N"},
		{"both flags", "10.42.0.0/16", []string{"node-cidr-mask-size=26", "node-cidr-mask-size-ipv4=26"}, "nor beside a flag for one"},
		{"somebody else gives shares", "10.42.0.0/25", []string{"allocate-node-cidrs=false"}, ""},
		{"of another range", "10.42.0.0/25", []string{"cluster-cidr=10.44.0.0/16"}, ""},

		{"IPv6", "fd42::/56", nil, ""},
		{"IPv6, the widest", "fd42::/48", nil, ""},
		{"IPv6, too wide", "fd42::/47", nil, "too wide for shares of a /64, of which the controller manager can count 65536; use a /48, " +
			"or larger shares by --kube-controller-manager-arg node-cidr-mask-size=N, N from 47 to 63"},
		{"IPv6, larger shares", "fd42::/47", []string{"node-cidr-mask-size=63"}, ""},
		{"IPv6, too small", "fd42::/108", nil, `--cluster-cidr "fd42::/108": too small for one node: each node takes a /64 of it; use a /64 or wider, ` +
			"or smaller shares by --kube-controller-manager-arg node-cidr-mask-size=N, N from 108 to 126"},
		{"IPv6, smaller shares", "fd42::/108", []string{"node-cidr-mask-size-ipv6=120"}, ""},
		{"IPv6, no address for pods", "fd42::/112", []string{"node-cidr-mask-size=127"}, "write at most 126"},

		{"both", "10.42.0.0/16,fd42::/56", nil, ""},
		{"both, the second too small", "10.42.0.0/16,fd42::/108", nil, `"fd42::/108": too small for one node: each node takes a /64 of it; use a /64 or wider, ` +
			"or smaller shares by --kube-controller-manager-arg node-cidr-mask-size-ipv6=N"},
		{"both, a share each", "10.42.0.0/25,fd42::/108", []string{"node-cidr-mask-size-ipv4=26", "node-cidr-mask-size-ipv6=112"}, ""},
		{"both, one share for both", "10.42.0.0/16,fd42::/56", []string{"node-cidr-mask-size=26"}, "give node-cidr-mask-size-ipv4=N and node-cidr-mask-size-ipv6=N"},
	} {
		t.Run(x.name, func(t *testing.T) {
			services := services4
			switch {
			case strings.Contains(x.pods, ","):
				services += "," + services6
			case strings.Contains(x.pods, ":"):
				services = services6
			}
			given := []string{"cluster-cidr", x.pods, "service-cidr", services}
			for _, arg := range x.args {
				given = append(given, "kube-controller-manager-arg", arg)
			}
			err := detected(t, fakeMachine(t), given...).Validate()
			if x.want == "" && err != nil {
				t.Errorf("refused: %v", err)
			}
			if x.want != "" && (err == nil || !strings.Contains(err.Error(), x.want)) {
				t.Errorf("error %v, want it to say %q", err, x.want)
			}
		})
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
