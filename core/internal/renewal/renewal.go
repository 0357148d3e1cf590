// Package renewal keeps certificates from ending while the one who has them runs.
package renewal

import (
	"context"
	"crypto/x509"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/cleat-dev/cleat/core/internal/pki"
)

const (
	firstDelay = time.Second
	repeatLog  = time.Hour // how often an unchanged cause is logged
)

// Options are what a Keeper needs from its surroundings.
type Options struct {
	Certificates []string // the files that Renew answers for
	// Renew issues anew what is due, which is nothing most of the time, or with
	// all everything. It is never called twice at a time.
	Renew func(ctx context.Context, all bool) error
	Log   *slog.Logger
	Now   func() time.Time // what certificates are held against
}

// Keeper looks after certificates. It goes by the wall clock at every look, so
// neither a clock that was set nor a machine that slept makes it miss the time.
type Keeper struct {
	Options
	asked chan chan error

	mu     sync.Mutex
	failed error // of the last look
}

// New makes a keeper.
func New(o Options) *Keeper { return &Keeper{Options: o, asked: make(chan chan error)} }

// Run looks after the certificates until ctx ends. A failure is logged and tried
// again, soon at first: the certificates have a third of their time to go.
func (k *Keeper) Run(ctx context.Context) {
	var delay time.Duration // while it fails
	var said string
	var saidAt time.Time
	for {
		every := k.every()
		wait := every
		if delay > 0 {
			// Members of one cluster do not come in step.
			wait = delay/2 + rand.N(delay)
		}
		var reply chan error
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case reply = <-k.asked:
			timer.Stop()
		}
		err := k.Renew(ctx, reply != nil)
		if ctx.Err() != nil {
			return
		}
		if reply != nil {
			reply <- err
		}
		k.mu.Lock()
		k.failed = err
		k.mu.Unlock()
		if err == nil {
			delay, said = 0, ""
			continue
		}
		delay = min(max(2*delay, firstDelay), every)
		if text, now := err.Error(), k.Now(); text != said || now.Sub(saidAt) >= repeatLog {
			said, saidAt = text, now
			k.complain(err)
		}
	}
}

// Rotate has every certificate issued anew and returns when that is done. It
// waits for Run to begin.
func (k *Keeper) Rotate(ctx context.Context) error {
	reply := make(chan error, 1)
	select {
	case k.asked <- reply:
	case <-ctx.Done():
		return fmt.Errorf("the certificates are not looked after yet, or just being renewed: %w", ctx.Err())
	}
	select {
	case err := <-reply:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the certificates are still being renewed: %w", ctx.Err())
	}
}

// Check is an error if the certificates cannot be renewed and one ends very soon.
func (k *Keeper) Check() error {
	k.mu.Lock()
	failed := k.failed
	k.mu.Unlock()
	if failed == nil {
		return nil
	}
	file, cert := k.first()
	if cert == nil || !pki.EndsVerySoon(cert, k.Now()) {
		return nil
	}
	return fmt.Errorf("%s ends at %s and cannot be renewed: %w", file, cert.NotAfter.UTC().Format(time.RFC3339), failed)
}

func (k *Keeper) complain(err error) {
	level, attrs := slog.LevelWarn, []any{"error", err}
	if file, cert := k.first(); cert != nil {
		if pki.EndsVerySoon(cert, k.Now()) {
			level = slog.LevelError
		}
		attrs = append(attrs, "first_to_end", file, "left", left(cert.NotAfter.Sub(k.Now())))
	}
	k.Log.Log(context.Background(), level, "certificates not renewed, trying again", attrs...)
}

func left(d time.Duration) string {
	if days := int(d.Hours() / 24); days > 1 {
		return fmt.Sprintf("%d days", days)
	}
	return d.Round(time.Second).String()
}

// first is the certificate that ends first of those that can be read.
func (k *Keeper) first() (file string, cert *x509.Certificate) {
	for _, f := range k.Certificates {
		c, err := pki.ReadLeaf(f)
		if err == nil && (cert == nil || c.NotAfter.Before(cert.NotAfter)) {
			file, cert = f, c
		}
	}
	return file, cert
}

// every is how long to wait between two looks.
func (k *Keeper) every() time.Duration { return pki.LookEvery(Shortest(k.Certificates)) }

// Shortest is how long the shortest-lived of some certificate files is valid, from
// its first moment to its last; a year if none can be read.
func Shortest(files []string) time.Duration {
	shortest := pki.LeafLife
	for _, f := range files {
		if c, err := pki.ReadLeaf(f); err == nil {
			shortest = min(shortest, c.NotAfter.Sub(c.NotBefore))
		}
	}
	return shortest
}
