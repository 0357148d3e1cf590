package apiserver

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/cleat-dev/cleat/core/config"
)

func testFiles() Files {
	return Files{
		Serving: Pair{"/s.crt", "/s.key"}, KubeletClient: Pair{"/k.crt", "/k.key"}, ProxyClient: Pair{"/p.crt", "/p.key"},
		ServerCA: "/server-ca.crt", ClientCA: "/client-ca.crt", RequestHeaderCA: "/request-header-ca.crt",
		ServiceAccountKey: "/service.key", AuthenticationConfig: "/authentication.yaml",
	}
}

func testConfig(extra ...string) *config.Config {
	return &config.Config{Options: config.Options{
		AdvertiseAddress: "192.0.2.7", BindAddress: "0.0.0.0", HTTPSListenPort: 6443,
		ClusterDomain: "cluster.local", ServiceCIDR: []string{"10.43.0.0/16", "fd00::/112"}, ServiceNodePortRange: "30000-32767",
		KubeAPIServerArg: extra,
	}}
}

func TestArgs(t *testing.T) {
	got, err := Args(testConfig(), testFiles())
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"--enable-admission-plugins=NodeRestriction",
		"--feature-gates=WatchList=false",
		"--advertise-address=192.0.2.7",
		"--allow-privileged=true",
		"--authentication-config=/authentication.yaml",
		"--authorization-mode=Node,RBAC",
		"--bind-address=0.0.0.0",
		"--client-ca-file=/client-ca.crt",
		"--enable-bootstrap-token-auth=true",
		"--etcd-servers=unix://set-when-the-datastore-is-ready",
		"--kubelet-certificate-authority=/server-ca.crt",
		"--kubelet-client-certificate=/k.crt",
		"--kubelet-client-key=/k.key",
		"--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
		"--profiling=false",
		"--proxy-client-cert-file=/p.crt",
		"--proxy-client-key-file=/p.key",
		"--requestheader-allowed-names=system:auth-proxy",
		"--requestheader-client-ca-file=/request-header-ca.crt",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-username-headers=X-Remote-User",
		"--secure-port=6443",
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=/service.key",
		"--service-account-signing-key-file=/service.key",
		"--service-cluster-ip-range=10.43.0.0/16,fd00::/112",
		"--service-node-port-range=30000-32767",
		"--tls-cert-file=/s.crt",
		"--tls-private-key-file=/s.key",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A tunnel leads to pods, so services are resolved to them.
func TestArgsOfEgress(t *testing.T) {
	for mode, want := range map[string]bool{
		config.EgressAgent: false, config.EgressDisabled: false, config.EgressPod: true, config.EgressCluster: true,
	} {
		cfg := testConfig()
		cfg.EgressSelectorMode = mode
		got, err := Args(cfg, testFiles())
		if err != nil || slices.Contains(got, "--enable-aggregator-routing=true") != want {
			t.Errorf("%s: %q, %v; want endpoints resolved: %t", mode, got, err, want)
		}
	}
}

func TestArgsRefusesWhatHasNoEffect(t *testing.T) {
	for flag, instead := range foreign {
		for _, arg := range []string{flag + "=x", "--" + flag + "=x", flag} {
			_, err := Args(testConfig(arg), testFiles())
			if err == nil || !strings.Contains(err.Error(), flag) || !strings.Contains(err.Error(), instead) {
				t.Errorf("%s: got %v, want an error that names it and %s", arg, err, instead)
			}
		}
	}
}

func TestAnonymousRequests(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	deciding := write("deciding.yaml", authenticationConfig)
	silent := write("silent.yaml", "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt: []\n")
	const ours, off = "--authentication-config=/authentication.yaml", "--anonymous-auth=false"
	for _, tt := range []struct {
		name  string
		extra []string
		want  []string
	}{
		{"health alone by default", nil, []string{ours}},
		{"flags of oidc exclude our file", []string{"oidc-issuer-url=https://id.example"}, []string{off}},
		{"the operator's flag counts", []string{"anonymous-auth=true"}, []string{"--anonymous-auth=true"}},
		{"the operator's file that decides", []string{"authentication-config=" + deciding}, []string{"--authentication-config=" + deciding}},
		{"the operator's file that does not", []string{"--authentication-config=" + silent}, []string{off, "--authentication-config=" + silent}},
		{"the operator's file that is missing", []string{"authentication-config=/none"}, []string{off, "--authentication-config=/none"}},
		{"the operator's file and flag", []string{"authentication-config=" + silent, "anonymous-auth=true"}, []string{"--authentication-config=" + silent, "--anonymous-auth=true"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args, err := Args(testConfig(tt.extra...), testFiles())
			if err != nil {
				t.Fatal(err)
			}
			got := slices.DeleteFunc(args, func(a string) bool {
				return !strings.HasPrefix(a, "--anonymous-auth=") && !strings.HasPrefix(a, "--authentication-config=")
			})
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestNodeRestriction(t *testing.T) {
	const ours = "--enable-admission-plugins=NodeRestriction"
	for _, tt := range []struct {
		extra string
		want  bool
	}{
		{"enable-admission-plugins=PodNodeSelector", true},
		{"disable-admission-plugins=PodSecurity", true},
		{"disable-admission-plugins=PodSecurity,NodeRestriction", false},
	} {
		args, err := Args(testConfig(tt.extra), testFiles())
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(args, ours) != tt.want {
			t.Errorf("%s: %s is there is %t, want %t", tt.extra, ours, !tt.want, tt.want)
		}
		if !slices.Contains(args, "--"+tt.extra) {
			t.Errorf("%s is missing in %q", tt.extra, args)
		}
	}
}
