package serverstatus

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

// CertificateState says how urgent a certificate is.
type CertificateState string

// The states of a certificate. cleat renews its own in time, so a warning means that
// this did not happen. k3s warns at 90 days too.
const (
	CertificateOK         CertificateState = "ok"
	CertificateWarning    CertificateState = "warning"  // ends within 90 days, or a quarter of its time
	CertificateCritical   CertificateState = "critical" // ends within 30 days, or a twelfth of its time
	CertificateExpired    CertificateState = "expired"
	CertificateUnreadable CertificateState = "unreadable" // Error says why
)

// Certificate is a file with a certificate; of several in it, the first counts.
type Certificate struct {
	File     string           `json:"file"`
	Subject  string           `json:"subject,omitempty"` // as RFC 2253 writes it
	NotAfter time.Time        `json:"not_after,omitzero"`
	DaysLeft int              `json:"days_left"` // whole days; negative after the end
	State    CertificateState `json:"state"`
	Error    string           `json:"error,omitempty"`
}

// ReadCertificates returns the *.crt files of directories, of which any may be
// missing, sorted by path.
func ReadCertificates(now time.Time, dirs ...string) []Certificate {
	var all []Certificate
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if errors.Is(err, fs.ErrNotExist) {
			continue // not made yet
		}
		if err != nil {
			all = append(all, Certificate{File: dir, State: CertificateUnreadable, Error: clip(err.Error())})
			continue
		}
		for _, entry := range entries {
			if entry.Type().IsRegular() && strings.HasSuffix(entry.Name(), ".crt") {
				all = append(all, readCertificate(filepath.Join(dir, entry.Name()), now))
			}
		}
	}
	slices.SortFunc(all, func(a, b Certificate) int { return strings.Compare(a.File, b.File) })
	return all
}

func readCertificate(file string, now time.Time) Certificate {
	cert, err := pki.ReadLeaf(file)
	if err != nil {
		return Certificate{File: file, State: CertificateUnreadable, Error: clip(err.Error())}
	}
	left := cert.NotAfter.Sub(now)
	c := Certificate{File: file, Subject: clip(cert.Subject.String()), NotAfter: cert.NotAfter, DaysLeft: int(left.Hours() / 24), State: CertificateOK}
	switch {
	case left <= 0:
		c.State = CertificateExpired
	case pki.EndsVerySoon(cert, now):
		c.State = CertificateCritical
	case pki.EndsSoon(cert, now):
		c.State = CertificateWarning
	}
	return c
}
