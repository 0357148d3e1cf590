package pki

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"

	"github.com/cleat-dev/cleat/core/config"
	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
)

type server struct {
	t    *testing.T
	cfg  *config.Config
	data paths.Data
	id   *certs.Identity
	now  time.Time
}

func newServer(t *testing.T) *server {
	now := time.Now()
	id, err := certs.NewIdentity(now)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{t: t, data: paths.Data(t.TempDir()), id: id, now: now, cfg: &config.Config{}}
	s.cfg.Options = config.Options{
		BindAddress: "0.0.0.0", HTTPSListenPort: 6443, AdvertiseAddress: "192.0.2.7", TLSSAN: []string{"api.example", "203.0.113.9"},
		ServiceCIDR: []string{"10.43.0.0/16", "fd00:43::/112"}, ClusterDomain: "cluster.local",
		NodeName: "node-1", NodeIP: []string{"192.0.2.7", "2001:db8::7"},
		WriteKubeconfig: filepath.Join(string(s.data), "etc", "cleat.yaml"), WriteKubeconfigMode: "0640",
	}
	// Bootstrap's part.
	if err := os.MkdirAll(s.data.TLS(""), 0o700); err != nil {
		t.Fatal(err)
	}
	s.writeIdentity()
	return s
}

func (s *server) writeIdentity() {
	for name, text := range s.id.Files() {
		if err := os.WriteFile(s.data.TLS(name), text, 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *server) unit() *PKI {
	return New(Options{
		Config: s.cfg, Data: s.data, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return s.now },
		Identity: func() (*certs.Identity, error) { return s.id, nil },
	})
}

func (s *server) start() (Files, error) {
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	u := s.unit()
	return u.Files(), u.Run(ctx, cancel)
}

func (s *server) must() Files {
	s.t.Helper()
	f, err := s.start()
	if err != nil {
		s.t.Fatal(err)
	}
	return f
}

func TestServingCertificate(t *testing.T) {
	s := newServer(t)
	f := s.must()
	pair, err := tls.LoadX509KeyPair(f.Serving.Cert, f.Serving.Key)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{
		"127.0.0.1", "::1", "localhost", "10.43.0.1", "fd00:43::1", "192.0.2.7", "2001:db8::7", "203.0.113.9", "api.example", "node-1",
		"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
	} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: s.id.Server.Pool(), DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: s.id.Server.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err == nil {
		t.Error("the serving certificate is good as a client's")
	}
}

func TestKubeconfigs(t *testing.T) {
	s := newServer(t)
	f := s.must()
	for path, want := range map[string]struct {
		user   string
		groups []string
		mode   fs.FileMode
	}{
		f.Admin:               {UserAdmin, []string{groupMasters}, 0o600},
		s.cfg.WriteKubeconfig: {UserAdmin, []string{groupMasters}, 0o640},
		f.Scheduler:           {UserScheduler, nil, 0o600},
		f.ControllerManager:   {UserControllers, nil, 0o600},
		f.CloudController:     {UserCloudController, nil, 0o600},
		f.Deployer:            {UserDeployer, []string{groupMasters}, 0o600},
		f.Supervisor:          {UserSupervisor, []string{groupMasters}, 0o600},
	} {
		c, err := clientcmd.BuildConfigFromFlags("", path)
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != want.mode {
			t.Errorf("%s: mode %v, want %v", path, info.Mode(), want.mode)
		}
		if inside := want.user == UserAdmin; inside != (c.CertFile == "") {
			t.Errorf("%s: admin has all in the file, components follow renewals by path", path)
		}
		if c.CertFile != "" {
			c.CertData = read(t, c.CertFile)
			c.KeyData = read(t, c.KeyFile)
			c.CAData = read(t, c.CAFile)
		}
		pair, err := tls.X509KeyPair(c.CertData, c.KeyData)
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: s.id.Client.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		subject := pair.Leaf.Subject
		if subject.CommonName != want.user || !slices.Equal(subject.Organization, want.groups) {
			t.Errorf("%s is for %v, want %s %v", path, subject, want.user, want.groups)
		}
		if c.Host != "https://127.0.0.1:6443" || !bytes.Equal(c.CAData, s.id.Server.CertPEM()) {
			t.Errorf("%s: server %s", path, c.Host)
		}
	}
	proxy, err := certs.ReadLeaf(f.FrontProxy.Cert)
	if err != nil {
		t.Fatal(err)
	}
	for pool, want := range map[*certs.Authority]bool{s.id.RequestHeader: true, s.id.Client: false} {
		_, err := proxy.Verify(x509.VerifyOptions{Roots: pool.Pool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		if (err == nil) != want {
			t.Errorf("front proxy by %s: %v", pool.Name(), err)
		}
	}
}

func TestRestartChangesNothingAndChangesReachTheFiles(t *testing.T) {
	s := newServer(t)
	f := s.must()
	before := snapshot(t, string(s.data))
	s.now = s.now.Add(24 * time.Hour)
	s.must()
	if !reflect.DeepEqual(before, snapshot(t, string(s.data))) {
		t.Error("a restart changed a file")
	}

	key := read(t, f.Serving.Key)
	admin := read(t, f.Admin)
	s.cfg.TLSSAN = append(s.cfg.TLSSAN, "more.example")
	s.must()
	cert, err := certs.ReadLeaf(f.Serving.Cert)
	if err != nil || cert.VerifyHostname("more.example") != nil {
		t.Errorf("a new --tls-san is not in the certificate: %v", err)
	}
	if !bytes.Equal(key, read(t, f.Serving.Key)) || !bytes.Equal(admin, read(t, f.Admin)) {
		t.Error("a new --tls-san changed a key or the admin")
	}

	s.now = s.now.Add(certs.LeafLife * 2 / 3)
	s.must()
	if bytes.Equal(admin, read(t, f.Admin)) || !bytes.Equal(read(t, f.Admin), read(t, s.cfg.WriteKubeconfig)) {
		t.Error("the admin kubeconfigs did not follow the renewal")
	}

	if s.id, err = certs.NewIdentity(s.now); err != nil {
		t.Fatal(err)
	}
	s.writeIdentity()
	s.must()
	if cert, err = certs.ReadLeaf(f.Serving.Cert); err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(x509.VerifyOptions{Roots: s.id.Server.Pool(), CurrentTime: s.now}); err != nil {
		t.Errorf("after a new authority: %v", err)
	}
}

func TestBadOptionsAreNamed(t *testing.T) {
	for want, change := range map[string]func(*config.Config){
		"--bind-address":          func(c *config.Config) { c.BindAddress = "x" },
		"--service-cidr":          func(c *config.Config) { c.ServiceCIDR = []string{"x"} },
		"--tls-san":               func(c *config.Config) { c.TLSSAN = []string{"a b"} },
		"--node-ip":               func(c *config.Config) { c.NodeIP = []string{"host"} },
		"--write-kubeconfig-mode": func(c *config.Config) { c.WriteKubeconfigMode = "rw" },
		"--write-kubeconfig:":     func(c *config.Config) { c.WriteKubeconfig = "/dev/null/x" },
	} {
		s := newServer(t)
		change(s.cfg)
		if _, err := s.start(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
}

func TestKubeconfigOfAGroup(t *testing.T) {
	s := newServer(t)
	s.cfg.WriteKubeconfigGroup = strconv.Itoa(os.Getgid())
	if _, err := s.start(); err != nil {
		t.Fatal(err)
	}
	if err := giveToGroup(s.cfg.WriteKubeconfig, "no-such-group"); err == nil || !strings.Contains(err.Error(), "make it with groupadd") {
		t.Errorf("a group that is not there: %v", err)
	}
	if os.Geteuid() != 0 {
		return // only root gives files to a group it is not in
	}
	for group, want := range map[string]uint32{"4711": 4711, "daemon": 1} {
		s.cfg.WriteKubeconfigGroup = group
		if _, err := s.start(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(s.cfg.WriteKubeconfig)
		if err != nil {
			t.Fatal(err)
		}
		if got := info.Sys().(*syscall.Stat_t).Gid; got != want || info.Mode().Perm() != 0o640 {
			t.Errorf("group %s: the file belongs to %d, mode %v", group, got, info.Mode())
		}
	}
}

func read(t *testing.T, path string) []byte {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func snapshot(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		all[path] = info.ModTime().String() + info.Mode().String()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
