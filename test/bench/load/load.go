// Package load sends requests to an API server from many clients at once and
// measures each. The benchmarks share it.
package load

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// Client is one client of an API server, with one connection of its own.
type Client struct {
	http *http.Client
	host string // scheme, name and port
}

// Clients returns n clients with the identity of a kubeconfig, which must have a
// client certificate.
func Clients(kubeconfig string, n int) ([]*Client, error) {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return nil, err
	}
	secure, err := rest.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	if secure == nil {
		return nil, fmt.Errorf("kubeconfig %s: no TLS; it needs a server with https and a client certificate", kubeconfig)
	}
	clients := make([]*Client, n)
	for i := range clients {
		// A transport each: of one that is shared, client-go keeps 25 connections
		// alive, and HTTP/2 would put all clients on one.
		clients[i] = &Client{host: config.Host, http: &http.Client{
			Timeout:   time.Minute,
			Transport: &http.Transport{TLSClientConfig: secure.Clone(), MaxConnsPerHost: 1},
		}}
	}
	return clients, nil
}

// Do sends a request with a JSON body, or none, and returns the answer's body. Any
// status but want is an error.
func (c *Client) Do(method, path string, body []byte, want int) ([]byte, error) {
	req, err := http.NewRequest(method, c.host+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(res.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if res.StatusCode != want {
		return nil, fmt.Errorf("%s %s: %s, want %d: %s", method, path, res.Status, want, answer[:min(len(answer), 500)])
	}
	return answer, nil
}

// Result says how long requests took.
type Result struct {
	P50, P99  time.Duration
	PerSecond float64 // answered requests of all clients together
}

// Run calls do for every number below requests, spread over the clients, each of
// which goes through its own numbers one after the other. The first error ends
// that client's.
func Run(clients []*Client, requests int, do func(c *Client, i int) error) (Result, error) {
	times := make([][]time.Duration, len(clients))
	errs := make([]error, len(clients))
	var wg sync.WaitGroup
	begin := time.Now()
	for n, client := range clients {
		wg.Go(func() {
			for i := n; i < requests; i += len(clients) {
				began := time.Now()
				if errs[n] = do(client, i); errs[n] != nil {
					return
				}
				times[n] = append(times[n], time.Since(began))
			}
		})
	}
	wg.Wait()
	spent := time.Since(begin)
	if err := errors.Join(errs...); err != nil {
		return Result{}, err
	}
	all := slices.Sorted(slices.Values(slices.Concat(times...)))
	if len(all) == 0 {
		return Result{}, errors.New("no request was sent")
	}
	return Result{P50: all[len(all)/2], P99: all[len(all)*99/100], PerSecond: float64(len(all)) / spent.Seconds()}, nil
}
