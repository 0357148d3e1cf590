package pluginregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/credentials"
	"oras.land/oras-go/v2/registry/remote/retry"

	"github.com/cleat-dev/cleat/core/pluginregistry/registriesfile"
)

// Bounds of one conversation with a registry.
const (
	defaultTimeout = 10 * time.Minute
	dialTimeout    = 10 * time.Second
	headerTimeout  = 60 * time.Second
	maxHeaders     = 256 << 10
	maxRedirects   = 5
	maxRetries     = 2
)

// Options is what a Client needs; the zero value talks to public registries.
type Options struct {
	Registries *registriesfile.File // mirrors, credentials, TLS; nil = none
	// Credential is asked for hosts that Registries has no credential for; nil =
	// they are asked as anybody.
	Credential func(ctx context.Context, host string) (auth.Credential, error)
	Logger     *slog.Logger  // nil discards
	Timeout    time.Duration // of one pull, push or signature; 0 = 10 minutes
	UserAgent  string
}

// Client talks to registries. Its methods may be called by any number of
// goroutines.
type Client struct {
	registries *registriesfile.File
	credential func(ctx context.Context, host string) (auth.Credential, error)
	log        *slog.Logger
	timeout    time.Duration
	userAgent  string

	mu         sync.Mutex
	transports map[string]*http.Transport // by host
	clients    map[endpoint]*auth.Client
}

// NewClient returns a client; nothing is read or dialled yet.
func NewClient(o Options) *Client {
	c := &Client{registries: o.Registries, credential: o.Credential, log: o.Logger, timeout: o.Timeout, userAgent: o.UserAgent,
		transports: map[string]*http.Transport{}, clients: map[endpoint]*auth.Client{}}
	if c.registries == nil {
		c.registries = &registriesfile.File{}
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.userAgent == "" {
		c.userAgent = "cleat"
	}
	return c
}

// Close drops idle connections.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, t := range c.transports {
		t.CloseIdleConnections()
	}
}

// DockerCredential reads ~/.docker/config.json, or that of $DOCKER_CONFIG, with
// the helpers it names, each time it is asked.
func DockerCredential(ctx context.Context, host string) (auth.Credential, error) {
	store, err := credentials.NewStoreFromDocker(credentials.StoreOptions{})
	if err != nil {
		return auth.EmptyCredential, fmt.Errorf("docker's config.json: %w", err)
	}
	return credentials.Credential(store)(ctx, host)
}

// credentialOf is what a host is told who we are.
func (c *Client) credentialOf(ctx context.Context, host string) (auth.Credential, error) {
	a := c.registries.Auth(host)
	if a == nil && host == dockerHost {
		a = c.registries.Auth(dockerName)
	}
	switch {
	case a != nil && a.IdentityToken != "":
		return auth.Credential{RefreshToken: a.IdentityToken}, nil
	case a != nil:
		user, password := a.UserPassword()
		return auth.Credential{Username: user, Password: password}, nil
	case c.credential != nil:
		return c.credential(ctx, host)
	}
	return auth.EmptyCredential, nil
}

// Docker Hub is known by another name than it is reached under.
const (
	dockerName = "docker.io"
	dockerHost = "registry-1.docker.io"
)

// httpClient returns the client for one endpoint, which keeps its tokens.
func (c *Client) httpClient(e endpoint) *auth.Client {
	c.mu.Lock()
	defer c.mu.Unlock()
	if known, ok := c.clients[e]; ok {
		return known
	}
	c.clients[e] = &auth.Client{
		Client: &http.Client{
			Transport: &retry.Transport{
				Base:   &endpointTransport{client: c, endpoint: e},
				Policy: retryPolicy,
			},
			CheckRedirect: checkRedirect,
		},
		Credential: c.credentialOf,
		Cache:      auth.NewCache(),
		Header:     http.Header{"User-Agent": {c.userAgent}},
	}
	return c.clients[e]
}

// retryPolicy tries again what a busy registry refused, not what failed.
func retryPolicy() retry.Policy {
	return &retry.GenericPolicy{
		Retryable: func(r *http.Response, err error) (bool, error) {
			return err == nil && (r.StatusCode == http.StatusTooManyRequests || r.StatusCode == http.StatusBadGateway ||
				r.StatusCode == http.StatusServiceUnavailable || r.StatusCode == http.StatusGatewayTimeout), nil
		},
		Backoff: retry.DefaultBackoff, MinWait: 100 * time.Millisecond, MaxWait: 2 * time.Second, MaxRetry: maxRetries,
	}
}

var errDowngrade = errors.New("redirects from https to http")

func checkRedirect(req *http.Request, via []*http.Request) error {
	if len(via) > maxRedirects {
		return fmt.Errorf("redirects more than %d times", maxRedirects)
	}
	if via[len(via)-1].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return errDowngrade
	}
	return nil
}

// endpointTransport sends requests with the TLS settings of the host they go to,
// which after a redirect is another one.
type endpointTransport struct {
	client   *Client
	endpoint endpoint
}

// RoundTrip implements http.RoundTripper.
func (t *endpointTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	base, err := t.client.transport(req.URL.Host)
	if err != nil {
		return nil, err
	}
	// A request that a redirect caused has an address of the server's choice.
	if req.Response == nil && req.URL.Host == t.endpoint.Host {
		if rest, ok := strings.CutPrefix(req.URL.Path, registriesfile.DefaultRoot+"/"); ok {
			req = req.Clone(req.Context())
			req.URL.Path = t.endpoint.Root + "/" + rest
			if t.endpoint.mirrorOf != "" {
				// A mirror of several registries must know which one is meant.
				q := req.URL.Query()
				q.Set("ns", t.endpoint.mirrorOf)
				req.URL.RawQuery = q.Encode()
			}
		}
	}
	return base.RoundTrip(req)
}

// transport returns the transport for a host, made at its first use.
func (c *Client) transport(host string) (*http.Transport, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t, ok := c.transports[host]; ok {
		return t, nil
	}
	config, err := c.tlsConfig(host)
	if err != nil {
		return nil, fmt.Errorf("configs.%q.tls: %w", host, err)
	}
	t := &http.Transport{
		Proxy:                  http.ProxyFromEnvironment,
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSClientConfig:        config,
		TLSHandshakeTimeout:    dialTimeout,
		ResponseHeaderTimeout:  headerTimeout,
		MaxResponseHeaderBytes: maxHeaders,
		ForceAttemptHTTP2:      true,
		IdleConnTimeout:        30 * time.Second,
	}
	c.transports[host] = t
	return t, nil
}

func (c *Client) tlsConfig(host string) (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	settings := c.registries.TLS(host)
	if settings == nil {
		return config, nil
	}
	if settings.InsecureSkipVerify {
		c.log.Warn("the certificate of a registry is not checked: anybody between here and there can change what is pulled by tag",
			"registry", host, "reason", "insecure_skip_verify in registries.yaml")
		config.InsecureSkipVerify = true
	}
	ca, cert, key, err := settings.ReadCertificates()
	if err != nil {
		return nil, err
	}
	if ca != nil {
		pool, err := x509.SystemCertPool()
		if err != nil {
			pool = x509.NewCertPool()
		}
		if !pool.AppendCertsFromPEM(ca) {
			return nil, fmt.Errorf("ca_file: %s holds no certificate in PEM", settings.CAFile)
		}
		config.RootCAs = pool
	}
	if cert != nil {
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}
