// Package healthprobe asks the health endpoints of the embedded components.
package healthprobe

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"
)

// How the units of a server are called among the checks of its /readyz:
// "unit-kubelet", all of them in one group that ?exclude= leaves out.
const (
	UnitPrefix = "unit-"
	UnitGroup  = "units"
)

// Prober asks one URL. Make it with New; it keeps its connection between calls.
type Prober struct {
	url    string
	client *http.Client
}

// New returns a prober for url, http or https. config may hold client
// certificates and roots; a nil config trusts any certificate, which is right
// only for loopback addresses and answers that are not secret, as no
// credentials are sent.
func New(url string, config *tls.Config) *Prober {
	if config == nil {
		config = &tls.Config{InsecureSkipVerify: true}
	}
	return &Prober{url: url, client: &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, MaxIdleConns: 1},
	}}
}

// Body returns the body of a 200 answer, at most 64 KiB of it. Any other answer
// is an error that quotes what the component says is wrong.
func (p *Prober) Body(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
	if err != nil {
		return nil, err
	}
	res, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", p.url, err)
	}
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s%s", p.url, res.Status, complaints(string(body)))
	}
	return body, nil
}

// Check is Body for probes that only want to know.
func (p *Prober) Check(ctx context.Context) error {
	_, err := p.Body(ctx)
	return err
}

// Close drops the idle connection.
func (p *Prober) Close() { p.client.CloseIdleConnections() }

// complaints picks the failed lines ("[-]name failed: …") out of a verbose
// health answer, or gives the first line of any other.
func complaints(body string) string {
	var failed []string
	for line := range strings.Lines(body) {
		if strings.HasPrefix(line, "[-]") {
			failed = append(failed, strings.TrimSpace(strings.TrimPrefix(line, "[-]")))
		}
	}
	if len(failed) == 0 {
		first, _, _ := strings.Cut(strings.TrimSpace(body), "\n")
		if first == "" {
			return ""
		}
		failed = []string{first}
	}
	return ": " + strings.Join(failed, "; ")
}
