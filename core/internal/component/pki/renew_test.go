package pki

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	certs "github.com/cleat-dev/cleat/core/internal/pki"
)

// run lets the unit run in a time that passes by itself, and stops it after test.
func run(t *testing.T, life time.Duration, test func(t *testing.T, s *server, u *PKI, log *strings.Builder)) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t)
		s.cfg.CertificateLifetime = life
		var log strings.Builder
		o := s.unit().Options
		o.Now, o.Log = time.Now, slog.New(slog.NewTextHandler(&log, nil))
		u := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		done, ready := make(chan error, 1), make(chan struct{})
		go func() { done <- u.Run(ctx, func() { close(ready) }) }()
		<-ready
		synctest.Wait()
		test(t, s, u, &log)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// pass lets time pass, and the unit do what it has to.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestRenewsWhileRunning(t *testing.T) {
	const life = time.Hour
	run(t, life, func(t *testing.T, s *server, u *PKI, log *strings.Builder) {
		keys := map[string][]byte{}
		for _, i := range identities(u.files, certs.Leaf{}) {
			keys[i.pair.Key] = read(t, i.pair.Key)
		}
		admin := read(t, s.cfg.WriteKubeconfig)
		for range 60 {
			pass(3 * time.Minute)
			for _, i := range identities(u.files, certs.Leaf{}) {
				c, err := certs.ReadLeaf(i.pair.Cert)
				if err != nil || !time.Now().Before(c.NotAfter) || time.Until(c.NotAfter) > life {
					t.Fatalf("at %v: %s ends %v, %v", time.Now(), i.pair.Cert, c.NotAfter, err)
				}
			}
		}
		for file, key := range keys {
			if !bytes.Equal(key, read(t, file)) {
				t.Errorf("%s changed", file)
			}
		}
		if now := read(t, s.cfg.WriteKubeconfig); bytes.Equal(now, admin) || !bytes.Equal(now, read(t, u.files.Admin)) {
			t.Error("the admin kubeconfig did not follow")
		}
		// Three hours are four renewals of each, and a line for each.
		if n := strings.Count(log.String(), "certificate issued"); n < 4*len(keys) || n > 6*len(keys) {
			t.Errorf("%d lines for %d certificates:\n%s", n, len(keys), log)
		}
		before := read(t, u.files.Serving.Cert)
		if err := u.Rotate(t.Context()); err != nil || bytes.Equal(before, read(t, u.files.Serving.Cert)) {
			t.Errorf("asked for, nothing was issued: %v", err)
		}
	})
}

func TestAdminKubeconfigThatWasEditedStays(t *testing.T) {
	for name, edit := range map[string]func(path string) error{
		"edited":  func(path string) error { return os.WriteFile(path, []byte("mine"), 0o600) },
		"removed": os.Remove,
	} {
		t.Run(name, func(t *testing.T) {
			run(t, time.Hour, func(t *testing.T, s *server, u *PKI, log *strings.Builder) {
				if err := edit(s.cfg.WriteKubeconfig); err != nil {
					t.Fatal(err)
				}
				pass(50 * time.Minute)
				if text, err := os.ReadFile(s.cfg.WriteKubeconfig); err == nil && string(text) != "mine" {
					t.Error("it was written over")
				}
				if n := strings.Count(log.String(), "by hand"); n != 1 {
					t.Errorf("%d warnings:\n%s", n, log)
				}
			})
		})
	}
}

func TestFailedRenewalShowsWhenItMatters(t *testing.T) {
	run(t, time.Hour, func(t *testing.T, _ *server, u *PKI, log *strings.Builder) {
		keep := read(t, u.files.Serving.Key)
		if err := os.WriteFile(u.files.Serving.Key, []byte("no key"), 0o600); err != nil {
			t.Fatal(err)
		}
		pass(45 * time.Minute)
		if err := u.Check(t.Context()); err != nil || !strings.Contains(log.String(), "level=WARN") {
			t.Errorf("with minutes left: %v\n%s", err, log)
		}
		pass(13 * time.Minute)
		if err := u.Check(t.Context()); err == nil || !strings.Contains(err.Error(), u.files.Serving.Key) {
			t.Errorf("with two minutes left: %v", err)
		}
		if err := os.WriteFile(u.files.Serving.Key, keep, 0o600); err != nil {
			t.Fatal(err)
		}
		pass(10 * time.Minute)
		if err := u.Check(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
