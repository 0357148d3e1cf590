package cluster

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/cleat-dev/cleat/test/bench/load"
)

// The kinds of requests that are measured.
const (
	requestCreate = "create" // POST of a ConfigMap with 1 KiB
	requestUpdate = "update" // PUT of one
	requestGet    = "get"    // GET of one
	requestList   = "list"   // GET of a namespace with 500
)

const (
	writes = 1000 // of each kind and number of clients
	gets   = 2000
	lists  = 100
	listed = 500
)

// clientCounts are how many clients send requests at once.
func clientCounts() []int { return []int{1, 8, 64} }

// measureAPI sends all requests to the API server of a kubeconfig. The namespaces
// that it makes are left.
func measureAPI(kubeconfig string) ([]apiFigures, error) {
	first, err := load.Clients(kubeconfig, 8)
	if err != nil {
		return nil, err
	}
	const many = "bench-list"
	if err := makeNamespace(first[0], many); err != nil {
		return nil, err
	}
	if _, err := load.Run(first, listed, create(many)); err != nil {
		return nil, err
	}
	var figures []apiFigures
	for _, n := range clientCounts() {
		clients, err := load.Clients(kubeconfig, n)
		if err != nil {
			return nil, err
		}
		namespace := fmt.Sprintf("bench-%d", n)
		if err := makeNamespace(clients[0], namespace); err != nil {
			return nil, err
		}
		// Connections are made before the clock runs.
		if _, err := load.Run(clients, 2*n, func(c *load.Client, _ int) error {
			_, err := c.Do(http.MethodGet, "/api/v1/namespaces/"+namespace, nil, http.StatusOK)
			return err
		}); err != nil {
			return nil, err
		}
		for _, kind := range []struct {
			request string
			count   int
			do      func(*load.Client, int) error
		}{
			{requestCreate, writes, create(namespace)},
			{requestUpdate, writes, update(namespace)},
			{requestGet, gets, get(namespace)},
			{requestList, lists, list(many)},
		} {
			result, err := load.Run(clients, kind.count, kind.do)
			if err != nil {
				return nil, fmt.Errorf("%s, %d clients: %w", kind.request, n, err)
			}
			figures = append(figures, apiFigures{Request: kind.request, Clients: n, Result: result})
		}
	}
	return figures, nil
}

func makeNamespace(c *load.Client, name string) error {
	_, err := c.Do(http.MethodPost, "/api/v1/namespaces", fmt.Appendf(nil, `{"metadata":{"name":%q}}`, name), http.StatusCreated)
	return err
}

func path(namespace string) string { return "/api/v1/namespaces/" + namespace + "/configmaps" }

// configMap is the i-th, with 1 KiB that depends on version.
func configMap(i int, version string) []byte {
	return fmt.Appendf(nil, `{"metadata":{"name":"c%d"},"data":{"value":%q}}`, i, strings.Repeat(version, 1024/len(version)))
}

func create(namespace string) func(*load.Client, int) error {
	return func(c *load.Client, i int) error {
		_, err := c.Do(http.MethodPost, path(namespace), configMap(i, "a"), http.StatusCreated)
		return err
	}
}

func update(namespace string) func(*load.Client, int) error {
	return func(c *load.Client, i int) error {
		_, err := c.Do(http.MethodPut, fmt.Sprintf("%s/c%d", path(namespace), i), configMap(i, "b"), http.StatusOK)
		return err
	}
}

// get reads what was updated, and makes sure of it.
func get(namespace string) func(*load.Client, int) error {
	return func(c *load.Client, i int) error {
		body, err := c.Do(http.MethodGet, fmt.Sprintf("%s/c%d", path(namespace), i%writes), nil, http.StatusOK)
		if err == nil && !strings.Contains(string(body), `"bbbb`) {
			err = fmt.Errorf("ConfigMap c%d of %s is not what it was updated to", i%writes, namespace)
		}
		return err
	}
}

func list(namespace string) func(*load.Client, int) error {
	return func(c *load.Client, _ int) error {
		body, err := c.Do(http.MethodGet, path(namespace), nil, http.StatusOK)
		if err != nil {
			return err
		}
		// Decoding it all would measure this client; 500 names are proof enough.
		if n := strings.Count(string(body), `"name":"c`); n != listed {
			return fmt.Errorf("a list of %s has %d ConfigMaps, want %d", namespace, n, listed)
		}
		return nil
	}
}

// object is what the starter looks at in a Node or a Pod.
type object struct {
	Spec struct {
		PodCIDR string `json:"podCIDR"`
	} `json:"spec"`
	Status struct {
		Phase      string `json:"phase"`
		Conditions []struct {
			Type              string `json:"type"`
			Status            string `json:"status"`
			LastHeartbeatTime string `json:"lastHeartbeatTime"`
		} `json:"conditions"`
	} `json:"status"`
}

func read(c *load.Client, path string) (object, error) {
	var o object
	body, err := c.Do(http.MethodGet, path, nil, http.StatusOK)
	if err == nil {
		err = json.Unmarshal(body, &o)
	}
	return o, err
}
