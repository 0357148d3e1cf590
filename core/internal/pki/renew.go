package pki

import (
	"crypto/x509"
	"encoding/binary"
	"time"
)

// The times of a certificate that is renewed while its owner runs, each a part of
// its whole time. The longest are for certificates of a year and more.
const (
	longestLook = 5 * time.Minute

	endsSoon     = 90 * 24 * time.Hour
	endsVerySoon = 30 * 24 * time.Hour
)

func span(cert *x509.Certificate) time.Duration { return cert.NotAfter.Sub(cert.NotBefore) }

// RenewAt is when a certificate is issued anew: with a third of its time left, or
// up to a twentieth of it earlier. How much is in its serial number, so that
// certificates that were made together are not all renewed together.
func RenewAt(cert *x509.Certificate) time.Time {
	var serial [2]byte
	if text := cert.SerialNumber.Bytes(); len(text) >= len(serial) {
		copy(serial[:], text[len(text)-len(serial):])
	}
	early := span(cert) / 20 / (1 << 16) * time.Duration(binary.BigEndian.Uint16(serial[:]))
	return cert.NotAfter.Add(-span(cert)/3 - early)
}

// EndsSoon reports whether so little of a certificate's time is left that it should
// have been renewed: a quarter, 90 days at most.
func EndsSoon(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < min(endsSoon, span(cert)/4)
}

// EndsVerySoon reports whether a twelfth of a certificate's time is left, 30 days
// at most.
func EndsVerySoon(cert *x509.Certificate, now time.Time) bool {
	return cert.NotAfter.Sub(now) < min(endsVerySoon, span(cert)/12)
}

// LookEvery is how often whoever keeps a certificate that is valid for life looks
// whether it has to be renewed, and whoever uses it whether it was. The twentieth
// leaves a user six looks between RenewAt and the end.
func LookEvery(life time.Duration) time.Duration {
	return min(longestLook, max(life/20, time.Second))
}
