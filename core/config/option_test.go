package config

import (
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// contract is the list of flags that other checks rely on.
const contract = `config debug data-dir bind-address https-listen-port advertise-address tls-san token token-file agent-token agent-token-file
write-kubeconfig write-kubeconfig-mode cluster-cidr service-cidr service-node-port-range cluster-dns cluster-domain
flannel-backend datastore-endpoint disable disable-scheduler disable-cloud-controller disable-kube-proxy disable-network-policy disable-agent
kube-apiserver-arg kube-controller-manager-arg kube-scheduler-arg kubelet-arg kube-proxy-arg node-name node-ip
server node-label node-taint resolv-conf snapshotter pause-image private-registry container-runtime-endpoint
plugins-lock plugins-dir plugins-capture cni log-format v log alsologtostderr write-kubeconfig-group flannel-iface
protect-kernel-defaults image-credential-provider-bin-dir image-credential-provider-config image-service-endpoint
default-runtime nonroot-devices disable-default-registry-endpoint certificate-lifetime egress-selector-mode
node-external-ip node-internal-dns node-external-dns with-node-id lb-server-port`

func TestTableIsTheContract(t *testing.T) {
	var got []string
	for _, o := range Table() {
		got = append(got, o.Name)
	}
	want := strings.Fields(contract)
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("table\n%v\ncontract\n%v", got, want)
	}
}

// TestTableCoversOptions writes through every row and wants each field of
// Options written exactly once.
func TestTableCoversOptions(t *testing.T) {
	sample := map[Kind]string{Text: "/x", Number: "7", Period: "720h", Toggle: "true", List: "x"}
	writers := make(map[string]string)
	short := make(map[string]string)
	for _, o := range Table() {
		var opts Options
		if err := o.field.set(&opts, []string{sample[o.Kind()]}); err != nil {
			t.Fatalf("%s: %v", o.Name, err)
		}
		if got := o.Values(&opts); !slices.Equal(got, []string{sample[o.Kind()]}) {
			t.Errorf("%s: wrote %q, read %q", o.Name, sample[o.Kind()], got)
		}
		v := reflect.ValueOf(opts)
		for i := range v.NumField() {
			if name := v.Type().Field(i).Name; !v.Field(i).IsZero() {
				if other := writers[name]; other != "" {
					t.Errorf("both --%s and --%s write Options.%s", other, o.Name, name)
				}
				writers[name] = o.Name
			}
		}
		if other := short[o.Short]; o.Short != "" && other != "" {
			t.Errorf("-%s is both --%s and --%s", o.Short, other, o.Name)
		}
		short[o.Short] = o.Name
		if o.Help == "" || o.Group == "" || o.Commands == 0 || o.Kind() != Toggle && o.Value == "" {
			t.Errorf("row %s is incomplete: %+v", o.Name, o)
		}
		if o.Name != strings.ToLower(o.Name) || o.Env() != "CLEAT_"+strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_")) {
			t.Errorf("%s: variable %s", o.Name, o.Env())
		}
	}
	for f := range reflect.TypeFor[Options]().Fields() {
		if writers[f.Name] == "" {
			t.Errorf("no row writes Options.%s", f.Name)
		}
	}
}

// TestFieldCommentsNameTheirFlag keeps the comments of the struct, which is
// what other packages read, true to the table.
func TestFieldCommentsNameTheirFlag(t *testing.T) {
	src, err := os.ReadFile("config.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range Table() {
		if !strings.Contains(string(src), "// --"+o.Name) {
			t.Errorf("config.go: no field comment names --%s", o.Name)
		}
	}
}

func TestNearest(t *testing.T) {
	var names []string
	for _, o := range Table() {
		names = append(names, o.Name)
	}
	for given, want := range map[string]string{
		"tls-sans":       "tls-san",
		"tls_san":        "tls-san",
		"--data-dir":     "data-dir",
		"dataDir":        "data-dir",
		"clsuter-cidr":   "cluster-cidr",
		"kubelet-args":   "kubelet-arg",
		"token-flie":     "token-file",
		"etcd-s3-bucket": "",
		"zzz":            "",
		"":               "",
	} {
		if got := Nearest(given, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", given, got, want)
		}
	}
}

func TestPeriods(t *testing.T) {
	var opts Options
	option := period(func(o *Options) *time.Duration { return &o.CertificateLifetime })
	for given, want := range map[string]string{
		"8760h": "8760h", "90m": "1h30m", "120m": "2h", "30s": "30s", " 60s ": "1m", "1h10s": "1h0m10s", "0": "0s",
	} {
		if err := option.set(&opts, []string{given}); err != nil || option.get(&opts)[0] != want {
			t.Errorf("%q: %q, %v; want %q", given, option.get(&opts), err, want)
		}
	}
	for _, given := range []string{"", "x", "30", "1d"} {
		if err := option.set(&opts, []string{given}); err == nil {
			t.Errorf("%q was taken", given)
		}
	}
}
