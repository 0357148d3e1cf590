package pki

import (
	"crypto/x509"
	"math/big"
	"testing"
	"time"
)

func TestRenewAt(t *testing.T) {
	ca := authority(t, "ca")
	_, pub := keyPair(t)
	seen := map[time.Duration]bool{}
	for _, life := range []time.Duration{0, 30 * time.Second, time.Hour, 24 * time.Hour, LeafLife, 9 * LeafLife} {
		leaf := web
		leaf.Life = life
		if life == 0 {
			life = LeafLife
		}
		for range 20 {
			cert := sign(t, ca, pub, leaf, epoch)
			if got := cert.NotAfter.Sub(epoch); got != life {
				t.Fatalf("asked for %v, valid for %v", life, got)
			}
			left := cert.NotAfter.Sub(RenewAt(cert))
			if part := float64(left) / float64(life); part < 0.33 || part > 0.43 {
				t.Errorf("of %v it is renewed with %v left", life, left)
			}
			// Whoever looks every LookEvery looks six times and more before the end.
			if looks := left / LookEvery(life); looks < 6 {
				t.Errorf("of %v it is renewed with %d looks left", life, looks)
			}
			if EndsSoon(cert, RenewAt(cert)) {
				t.Errorf("of %v it is called late when it is renewed", life)
			}
			seen[left] = true
		}
	}
	if len(seen) < 60 {
		t.Errorf("120 certificates are renewed at %d times", len(seen))
	}
}

// A serial number may be anything in a certificate that an operator put there.
func TestRenewAtWithAnySerial(t *testing.T) {
	for _, serial := range []int64{0, 1, 255, 65535, 1 << 40} {
		c := &x509.Certificate{SerialNumber: big.NewInt(serial), NotBefore: epoch, NotAfter: epoch.Add(60 * time.Hour)}
		if left := c.NotAfter.Sub(RenewAt(c)); left < 20*time.Hour || left > 23*time.Hour {
			t.Errorf("serial %d: renewed with %v of 60h left", serial, left)
		}
	}
}

func TestUrgency(t *testing.T) {
	const day = 24 * time.Hour
	for _, c := range []struct {
		life, left     time.Duration
		soon, verySoon bool
	}{
		{365 * day, 91 * day, false, false},
		{365 * day, 89 * day, true, false},
		{365 * day, 29 * day, true, true},
		{3650 * day, 91 * day, false, false}, // an authority's
		{3650 * day, 29 * day, true, true},
		{time.Minute, 20 * time.Second, false, false},
		{time.Minute, 14 * time.Second, true, false},
		{time.Minute, 4 * time.Second, true, true},
	} {
		cert := &x509.Certificate{NotBefore: epoch, NotAfter: epoch.Add(c.life)}
		now := cert.NotAfter.Add(-c.left)
		if soon, verySoon := EndsSoon(cert, now), EndsVerySoon(cert, now); soon != c.soon || verySoon != c.verySoon {
			t.Errorf("%v of %v left: soon %v, very soon %v", c.left, c.life, soon, verySoon)
		}
	}
}
