package join

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
	"github.com/cleat-dev/cleat/core/internal/token"
)

const (
	requestTimeout = 10 * time.Second
	// maxAnswerHeader is far more than a supervisor sends; the server is not
	// known yet when it is first asked.
	maxAnswerHeader = 64 << 10
	// maxSkew is the difference of clocks that is worth a word; certificates
	// stand an hour.
	maxSkew = time.Minute
)

// client speaks to one supervisor. It trusts nobody until pin was called, and
// sends no credentials before.
type client struct {
	base  string
	token token.Token
	own   Pair // the kubelet's, which may not exist yet
	now   func() time.Time
	limit int64 // of an answer's body

	asMember bool // its own certificate says who it is, the token stays here

	pinned *http.Client
	skew   time.Duration // server's clock minus ours, as last seen
}

func newClient(server string, tok token.Token, own Pair, now func() time.Time) (*client, error) {
	u, err := url.Parse(server)
	if err != nil {
		return nil, fmt.Errorf("server %q: %w", server, err)
	}
	if u.Scheme != "https" || u.Host == "" || u.User != nil || (u.Path != "" && u.Path != "/") || u.RawQuery != "" {
		return nil, fmt.Errorf("server %q: want https://host:port", server)
	}
	return &client{base: "https://" + u.Host, token: tok, own: own, now: now, limit: joinapi.MaxAnswerBody}, nil
}

func newHTTP(config *tls.Config) *http.Client {
	config.MinVersion = tls.VersionTLS12
	return &http.Client{
		Transport: &http.Transport{
			TLSClientConfig: config, ForceAttemptHTTP2: true, IdleConnTimeout: requestTimeout,
			MaxResponseHeaderBytes: maxAnswerHeader, DisableCompression: true,
		},
		Timeout: requestTimeout,
		// A redirect would carry the token elsewhere.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// authorities asks the server which CA it belongs to. The answer is nobody's
// word until it was compared with the token.
func (c *client) authorities(ctx context.Context) ([]byte, error) {
	// Nothing secret is sent, and the answer is checked.
	anyone := newHTTP(&tls.Config{InsecureSkipVerify: true})
	defer anyone.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+joinapi.PathCACerts, nil)
	if err != nil {
		return nil, permanent{err}
	}
	return c.send(anyone, req)
}

// pin makes the client trust bundle and nothing else. It shows the certificate
// that the node may have from an earlier time: a server that is busy with
// somebody's guesses at the token then knows a member.
func (c *client) pin(bundle []byte) error {
	pool, err := pki.ParsePool(bundle)
	if err != nil {
		return fmt.Errorf("the server's CA certificates: %w", err)
	}
	c.close()
	c.pinned = newHTTP(&tls.Config{RootCAs: pool, Time: c.now, GetClientCertificate: c.certified})
	return nil
}

// certified is the node's certificate, or none: the token will do.
func (c *client) certified(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(c.own.Cert, c.own.Key)
	if err != nil {
		return &tls.Certificate{}, nil
	}
	return &pair, nil
}

func (c *client) close() {
	if c.pinned != nil {
		c.pinned.CloseIdleConnections()
	}
}

func (c *client) get(ctx context.Context, path string) ([]byte, error) {
	return c.ask(ctx, http.MethodGet, path, http.Header{}, nil)
}

// config is what the server says of the cluster to node, if the name is its own.
func (c *client) config(ctx context.Context, node joinapi.NodeRequest) ([]byte, error) {
	header := http.Header{}
	node.Set(header)
	return c.ask(ctx, http.MethodGet, joinapi.PathConfig, header, nil)
}

func (c *client) certificate(ctx context.Context, path string, node joinapi.NodeRequest, csr []byte) ([]byte, error) {
	header := http.Header{}
	node.Set(header)
	return c.ask(ctx, http.MethodPost, path, header, csr)
}

// ask sends one request, with what says who asks.
func (c *client) ask(ctx context.Context, method, path string, header http.Header, body []byte) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, bytes.NewReader(body))
	if err != nil {
		return nil, permanent{err}
	}
	req.Header = header
	c.authorize(req)
	answer, err := c.send(c.pinned, req)
	if !errors.Is(err, errToken) || c.asMember {
		return answer, err
	}
	advice := "was it rotated? Copy it from the server's node-token file"
	if c.token.Bootstrap {
		advice = "has it expired? `cleat token list` on a server shows which bootstrap tokens there are, `cleat token create` makes one"
	}
	return nil, permanent{refused{fmt.Errorf("%w: %s", err, advice)}}
}

// errToken says that the server does not take the token.
var errToken = errors.New("the server refuses the token")

func (c *client) authorize(req *http.Request) {
	if c.asMember {
		return
	}
	user := token.UserNode
	if c.token.Bootstrap {
		user = c.token.Username
	}
	req.SetBasicAuth(user, c.token.Password)
}

func (c *client) send(via *http.Client, req *http.Request) ([]byte, error) {
	res, err := via.Do(req)
	if err != nil {
		return nil, c.explain(err)
	}
	if date, err := http.ParseTime(res.Header.Get("Date")); err == nil {
		c.skew = date.Sub(c.now())
	}
	body, err := io.ReadAll(io.LimitReader(res.Body, c.limit+1))
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return nil, fmt.Errorf("the connection broke: %w", err)
	}
	if int64(len(body)) > c.limit {
		return nil, fmt.Errorf("%s: the answer is longer than %d bytes", req.URL.Path, c.limit)
	}
	return body, judge(req.URL.Path, res, body)
}

// refused is the error of a server that does not take who asks.
type refused struct{ error }

func (r refused) Unwrap() error { return r.error }

// judge turns an answer that is none into an error.
func judge(path string, res *http.Response, body []byte) error {
	said := joinapi.ReadStatus(body)
	switch code := res.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusUnauthorized:
		return permanent{refused{fmt.Errorf("%w: %s", errToken, said)}}
	case code == http.StatusConflict:
		// Not permanent: who deletes the old Node does so elsewhere.
		return fmt.Errorf("the server refuses this node: %s", said)
	case code == http.StatusForbidden:
		return permanent{refused{fmt.Errorf("the server refuses this node: %s", said)}}
	case code == http.StatusTooManyRequests || code >= 500:
		return fmt.Errorf("the server is not ready: %s: %s", res.Status, said)
	case code == http.StatusNotFound && path != joinapi.PathPlugin:
		// A kubelet, or a server of another kind. Only a plugin may be what a cleat server lacks.
		return permanent{fmt.Errorf("%s: the server answers %s: it is no cleat server; --server wants the port of `cleat server`, 6443 unless its --https-listen-port is another", path, res.Status)}
	case code < 400:
		return permanent{fmt.Errorf("%s: the server answers %s: it is no cleat server, or something stands before it", path, res.Status)}
	default:
		return permanent{fmt.Errorf("%s: the server answers %s: %s", path, res.Status, said)}
	}
}

// explain says what a failed request means for whoever has to mend it.
func (c *client) explain(err error) error {
	var (
		hostname x509.HostnameError
		unknown  x509.UnknownAuthorityError
		invalid  x509.CertificateInvalidError
		inner    *url.Error
		lookup   *net.DNSError
		noTLS    tls.RecordHeaderError
	)
	if errors.As(err, &inner) {
		err = inner.Err // the URL is in the message already
	}
	switch {
	case errors.As(err, &lookup):
		return fmt.Errorf("the server's name cannot be looked up: check --server, and the name servers of this machine: %w", err)
	case errors.Is(err, http.ErrSchemeMismatch), errors.As(err, &noTLS):
		return fmt.Errorf("what answers there does not speak TLS, so it is no cleat server; --server wants the port of `cleat server`, 6443 unless its --https-listen-port is another: %w", err)
	case errors.As(err, &hostname):
		return fmt.Errorf("the server's certificate is not for the name it was asked by: start the server with --tls-san for it: %w", err)
	case errors.As(err, &unknown):
		return fmt.Errorf("the server's certificate was not signed by the CA it shows: something may stand between this machine and the server: %w", err)
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		if s := c.skewed(); s != "" {
			return fmt.Errorf("%s: set the clock: %w", s, err)
		}
		return fmt.Errorf("the server's certificate is outside its time: compare the clocks, and see the server's log on why it was not renewed: %w", err)
	}
	return fmt.Errorf("the server cannot be reached: check that it runs and that its port is open: %w", err)
}

// skewed says how far apart the clocks are, "" if they agree.
func (c *client) skewed() string {
	switch d := c.skew.Round(time.Second); {
	case d > maxSkew:
		return fmt.Sprintf("this machine's clock is %v behind the server's", d)
	case d < -maxSkew:
		return fmt.Sprintf("this machine's clock is %v ahead of the server's", -d)
	}
	return ""
}
