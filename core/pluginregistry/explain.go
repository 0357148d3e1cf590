package pluginregistry

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"syscall"

	"oras.land/oras-go/v2/errdef"
	"oras.land/oras-go/v2/registry/remote/auth"
	"oras.land/oras-go/v2/registry/remote/errcode"
)

// ErrNotFound is wrapped by errors about what a registry does not have.
var ErrNotFound = errors.New("not found")

// explain says what went wrong at an endpoint and what to do about it. Addresses
// are left out, since those of redirects may hold credentials.
func (c *Client) explain(ctx context.Context, e endpoint, ref Reference, err error) error {
	where := "registry " + e.Host
	if e.mirrorOf != "" {
		where = fmt.Sprintf("mirror %s of %s", e.Host, e.mirrorOf)
	}
	return fmt.Errorf("%s: %w", where, c.reason(ctx, e, ref, err))
}

func (c *Client) reason(ctx context.Context, e endpoint, ref Reference, err error) error {
	var response *errcode.ErrorResponse
	switch {
	// The context is asked and not the error: a connection that was not made in
	// time is a context.DeadlineExceeded to errors.Is as well.
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("no end after %s: the registry is too slow or hangs", c.timeout)
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted")
	case errors.Is(err, errdef.ErrNotFound):
		return fmt.Errorf("%w: there is no %s; check name and tag, and whether these credentials may see it", ErrNotFound, ref)
	case errors.As(err, &response):
		return c.responseReason(e, ref, response)
	case errors.Is(err, auth.ErrBasicCredentialNotFound):
		return fmt.Errorf("asks for a user and password; set configs.%q.auth in registries.yaml, or log in with a tool that writes ~/.docker/config.json", e.Host)
	}
	if reason := dialReason(err); reason != nil {
		return reason
	}
	if reason := tlsReason(e, err); reason != nil {
		return reason
	}
	var u *url.Error
	if errors.As(err, &u) {
		var timeout interface{ Timeout() bool }
		if errors.As(u.Err, &timeout) && timeout.Timeout() {
			return errors.New("is connected and does not answer; try again later, or name a mirror in registries.yaml")
		}
		return printable(u.Err)
	}
	return printable(err)
}

func (c *Client) responseReason(e endpoint, ref Reference, r *errcode.ErrorResponse) error {
	said := ""
	if len(r.Errors) > 0 {
		said = ` ("` + clip(r.Errors.Error()) + `")`
	}
	switch r.StatusCode {
	case http.StatusUnauthorized:
		return fmt.Errorf("refused the credentials%s; check configs.%q.auth in registries.yaml, or ~/.docker/config.json", said, e.Host)
	case http.StatusForbidden:
		return fmt.Errorf("does not allow these credentials to do that with %s/%s%s", ref.Registry, ref.Repository, said)
	case http.StatusNotFound:
		return fmt.Errorf("%w: there is no %s%s; check name and tag, and whether these credentials may see it", ErrNotFound, ref, said)
	}
	return fmt.Errorf("answered %d %s%s", r.StatusCode, http.StatusText(r.StatusCode), said)
}

// dialReason says why there is no connection, nil if there is one.
func dialReason(err error) error {
	var (
		dns *net.DNSError
		op  *net.OpError
	)
	if errors.As(err, &op) && op.Op == "proxyconnect" {
		return fmt.Errorf("the proxy that the environment names (HTTPS_PROXY, HTTP_PROXY) does not help: %w; "+
			"correct it, or list the host in NO_PROXY", printable(op.Err))
	}
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return fmt.Errorf("no machine is called %s; check the spelling, or name a mirror in registries.yaml", dns.Name)
	case errors.As(err, &dns):
		return fmt.Errorf("the name %s cannot be looked up (%s); check the spelling and this machine's DNS, or name a mirror in registries.yaml",
			dns.Name, clip(dns.Err))
	case errors.Is(err, syscall.ECONNREFUSED):
		return errors.New("refused the connection: nothing listens there; check host and port, or name a mirror in registries.yaml")
	case op != nil && op.Op == "dial" && op.Timeout():
		return fmt.Errorf("no connection in %s; check host, port and firewall, or name a mirror in registries.yaml", dialTimeout)
	case op != nil && op.Op == "dial":
		return fmt.Errorf("no connection (%w); check host, port and routes, or name a mirror in registries.yaml", printable(op.Err))
	}
	return nil
}

func tlsReason(e endpoint, err error) error {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		plain   tls.RecordHeaderError
		alert   tls.AlertError
	)
	switch {
	case errors.As(err, &unknown):
		return fmt.Errorf("its certificate is from an authority that this machine does not know; put the authority's certificate into a file and name it as configs.%q.tls.ca_file in registries.yaml", e.Host)
	case errors.As(err, &name):
		return fmt.Errorf("its certificate is for another name: %w", name)
	case errors.As(err, &invalid):
		return fmt.Errorf("its certificate is not valid: %w", invalid)
	case errors.As(err, &plain), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fmt.Errorf("speaks http, not https; if that is meant, list http://%s as an endpoint of mirrors.%q in registries.yaml", e.Host, e.Host)
	case errors.As(err, &alert):
		return fmt.Errorf("ended the TLS handshake: %w; it may want a client certificate (configs.%q.tls.cert_file in registries.yaml)", alert, e.Host)
	}
	return nil
}

// printable keeps the error for errors.Is and its text on one line.
func printable(err error) error {
	if text := err.Error(); clip(text) != text {
		return &clipped{err}
	}
	return err
}

type clipped struct{ error }

func (c *clipped) Error() string { return clip(c.error.Error()) }
func (c *clipped) Unwrap() error { return c.error }
