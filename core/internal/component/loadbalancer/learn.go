package loadbalancer

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/cleat-dev/cleat/core/internal/atomicfile"
	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

const (
	learnEvery   = 5 * time.Second
	learnTimeout = 5 * time.Second
	// joinedEvery is how often it is looked whether the node has joined.
	joinedEvery = time.Second
)

// errNotJoined says that the node has no certificate to ask with yet.
var errNotJoined = errors.New("the node has not joined yet")

// learner asks for the servers of the cluster, through the balancer itself and
// with the kubelet's certificate.
type learner struct {
	url               string
	caFile            string
	certFile, keyFile string

	ca     []byte // of client
	client *http.Client
}

func (l *learner) learn(ctx context.Context) ([]string, error) {
	if err := l.prepare(); err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.url, nil)
	if err != nil {
		return nil, err
	}
	res, err := l.client.Do(req)
	if err != nil {
		return nil, err
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, joinapi.MaxAnswerBody+1))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		// A connection stands for the certificate that it was opened with, which may
		// have been renewed since.
		l.client.CloseIdleConnections()
		return nil, fmt.Errorf("%s: %s", res.Status, joinapi.ReadStatus(text))
	}
	servers, err := joinapi.ParseServers(text)
	return servers.Servers, err
}

// prepare makes a client that trusts the authority as it is on disk now.
func (l *learner) prepare() error {
	ca, err := os.ReadFile(l.caFile)
	if err == nil {
		_, err = os.Stat(l.certFile)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return errNotJoined
	}
	if err != nil || bytes.Equal(ca, l.ca) {
		return err
	}
	roots, err := pki.ParsePool(ca)
	if err != nil {
		return fmt.Errorf("%s: %w", l.caFile, err)
	}
	l.close()
	l.ca = ca
	l.client = &http.Client{
		Timeout: learnTimeout,
		Transport: &http.Transport{
			TLSClientConfig: &tls.Config{
				MinVersion: tls.VersionTLS12, RootCAs: roots,
				GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
					pair, err := tls.LoadX509KeyPair(l.certFile, l.keyFile)
					return &pair, err
				},
			},
			MaxConnsPerHost: 1, MaxResponseHeaderBytes: maxAnswer, DisableCompression: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return nil
}

func (l *learner) close() {
	if l.client != nil {
		l.client.CloseIdleConnections()
	}
}

// follow keeps the list of servers until ctx ends.
func (c *Component) follow(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var said string
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		servers, err := c.learn(ctx)
		every := learnEvery
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, errNotJoined):
			every = joinedEvery
		case err != nil:
			// That no server answers is said already.
			if text := err.Error(); text != said && c.pool.err() == nil {
				c.Log.Warn("the list of servers is not renewed", "error", err)
				said = text
			}
		default:
			said = ""
			c.take(servers)
		}
		timer.Reset(every)
	}
}

// take makes servers the list, and keeps it for the next start.
func (c *Component) take(servers []string) {
	if !c.pool.list(servers) {
		return
	}
	c.Log.Info("the cluster's servers", "servers", servers)
	if err := c.keep(servers); err != nil {
		c.Log.Warn("the list of servers is not kept for the next start", "error", err)
	}
}

// kept is the file.
type kept struct {
	Server string `json:"server"` // --server when the list was learned
	joinapi.Servers
}

func (c *Component) keep(servers []string) error {
	text, err := json.MarshalIndent(kept{c.Server, joinapi.Servers{Servers: servers}}, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(c.file), 0o700); err != nil {
		return err
	}
	_, err = atomicfile.WriteIfChanged(c.file, append(text, '\n'), 0o600)
	return err
}

// remember are the servers of the last start, none if there was none or if
// --server names another cluster since.
func (c *Component) remember() ([]string, error) {
	info, err := os.Stat(c.file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > joinapi.MaxAnswerBody {
		return nil, fmt.Errorf("%s: a %v of %d bytes, want a file of at most %d", c.file, info.Mode().Type(), info.Size(), joinapi.MaxAnswerBody)
	}
	text, err := os.ReadFile(c.file)
	if err != nil {
		return nil, err
	}
	var k kept
	if err := json.Unmarshal(text, &k); err != nil {
		return nil, fmt.Errorf("%s: %w", c.file, err)
	}
	if k.Server != c.Server {
		return nil, nil
	}
	servers, err := joinapi.ParseServers(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c.file, err)
	}
	return servers.Servers, nil
}
