package loadbalancer

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/pki"
)

const (
	// The server in use is asked more often than the others: what it costs to be
	// late is a request. Others are asked so that there is somewhere to go.
	checkEvery       = 500 * time.Millisecond
	checkOthersEvery = time.Second

	dialTimeout = time.Second
	// cutAfter is how long a server's machine may leave a check unacknowledged. It
	// is the kernel that acknowledges, so a busy server is not taken for a dead one.
	cutAfter = time.Second
	// slowAfter is how long a server may take for the answer.
	slowAfter = 3 * time.Second
	maxAnswer = 64 << 10 // header and all
)

// checker asks one server how it is, over a connection that it keeps. It is no
// http.Client, because that takes a cut connection for an idle one that the server
// closed, and asks again, which takes as long again.
type checker struct {
	address string
	request *http.Request
	tls     *tls.Config
	conn    *tls.Conn // nil if there is none
	left    *io.LimitedReader
	reader  *bufio.Reader
}

// newChecker makes a checker of the server at address. Clients ask for the server
// by the balancer's own address, so that is what its certificate is checked for,
// once the authority is known; no credentials are sent.
func newChecker(address, asked, caFile string) (*checker, error) {
	req, err := http.NewRequest(http.MethodGet, "https://"+address+joinapi.PathReady, nil)
	if err != nil {
		return nil, err
	}
	return &checker{
		address: address, request: req,
		tls: &tls.Config{
			MinVersion: tls.VersionTLS12, InsecureSkipVerify: true, // VerifyConnection does
			VerifyConnection: func(s tls.ConnectionState) error { return verify(s, asked, caFile) },
		},
	}, nil
}

// check is nil if the server's API server answers.
func (c *checker) check(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, slowAfter)
	defer cancel()
	kept := c.conn != nil
	status, err := c.ask(ctx)
	if kept && ended(err) {
		// The server closed it, or died: a new connection tells which.
		status, err = c.ask(ctx)
	}
	switch {
	case err != nil:
		return err
	case status != "":
		return errors.New(status)
	}
	return nil
}

// ask sends one request. An error means that the connection is gone; status is
// what the server has against being used.
func (c *checker) ask(ctx context.Context) (status string, err error) {
	defer func() {
		if err != nil {
			c.close()
		}
	}()
	if c.conn == nil {
		if err := c.dial(ctx); err != nil {
			return "", err
		}
	}
	deadline, _ := ctx.Deadline()
	if err := c.conn.SetDeadline(deadline); err != nil {
		return "", err
	}
	conn := c.conn
	defer context.AfterFunc(ctx, func() { conn.SetDeadline(time.Now()) })()
	if err := c.request.Write(c.conn); err != nil {
		return "", err
	}
	c.left.N = maxAnswer
	res, err := http.ReadResponse(c.reader, c.request)
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(res.Body)
	if err = errors.Join(err, res.Body.Close()); err != nil {
		return "", err
	}
	if res.Close {
		c.close()
	}
	switch res.StatusCode {
	case http.StatusOK, http.StatusTooManyRequests: // somebody floods it, and it stands
		return "", nil
	}
	return res.Status + ": " + joinapi.ReadStatus(text), nil
}

func (c *checker) dial(ctx context.Context) error {
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: -1, Control: func(_, _ string, c syscall.RawConn) error {
		return userTimeout(c, cutAfter)
	}}
	plain, err := dialer.DialContext(ctx, "tcp", c.address)
	if err != nil {
		return err
	}
	c.conn = tls.Client(plain, c.tls)
	c.left = &io.LimitedReader{R: c.conn, N: maxAnswer}
	c.reader = bufio.NewReader(c.left)
	return c.conn.HandshakeContext(ctx)
}

func (c *checker) close() {
	if c.conn != nil {
		c.conn.NetConn().Close()
		c.conn = nil
	}
}

// ended reports that the other end closed the connection.
func ended(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func timedOut(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// userTimeout has the kernel give a connection up whose data is not acknowledged.
func userTimeout(c syscall.RawConn, after time.Duration) (err error) {
	failed := c.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(after.Milliseconds()))
	})
	return errors.Join(failed, err)
}

// verify checks the certificate as clients of the balancer will.
func verify(s tls.ConnectionState, asked, caFile string) error {
	text, err := os.ReadFile(caFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // nobody has joined yet
	}
	if err != nil {
		return err
	}
	roots, err := pki.ParsePool(text)
	if err != nil {
		return fmt.Errorf("%s: %w", caFile, err)
	}
	between := x509.NewCertPool()
	for _, c := range s.PeerCertificates[1:] {
		between.AddCert(c)
	}
	_, err = s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, DNSName: asked})
	return err
}

// watch checks a server until ctx ends or the server is gone.
func (c *Component) watch(ctx context.Context, s *server) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	check, err := newChecker(s.address, c.host, c.caFile)
	if err != nil {
		c.pool.set(s, err)
		return
	}
	defer check.close()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.checked:
			return
		case <-timer.C:
		}
		if err := check.check(ctx); ctx.Err() == nil {
			c.pool.set(s, err)
		}
		every := checkOthersEvery
		if c.pool.inUse(s) {
			every = checkEvery
		}
		timer.Reset(every)
	}
}
