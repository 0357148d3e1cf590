package load

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"
)

func TestRunSendsEveryNumberOnce(t *testing.T) {
	clients := []*Client{{}, {}, {}}
	var mu sync.Mutex
	seen := map[int]int{}
	result, err := Run(clients, 10, func(_ *Client, i int) error {
		mu.Lock()
		defer mu.Unlock()
		seen[i]++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		if seen[i] != 1 {
			t.Errorf("number %d was sent %d times", i, seen[i])
		}
	}
	if len(seen) != 10 || result.PerSecond <= 0 || result.P99 < result.P50 {
		t.Errorf("%d numbers, %+v", len(seen), result)
	}
}

func TestRunMeasures(t *testing.T) {
	// Of 100 requests one is slow: p99 sees it, p50 does not.
	slow := 50 * time.Millisecond
	result, err := Run([]*Client{{}}, 100, func(_ *Client, i int) error {
		if i == 42 {
			<-time.After(slow)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if result.P99 < slow || result.P50 >= slow || result.PerSecond > 100/slow.Seconds() {
		t.Errorf("%+v", result)
	}
}

func TestRunTellsErrors(t *testing.T) {
	broken := errors.New("broken")
	if _, err := Run([]*Client{{}, {}}, 4, func(_ *Client, i int) error {
		if i == 3 {
			return broken
		}
		return nil
	}); !errors.Is(err, broken) {
		t.Errorf("got %v", err)
	}
	if _, err := Run(nil, 4, func(*Client, int) error { return nil }); err == nil {
		t.Error("no client, and no error")
	}
}

func TestDo(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/api" || r.Header.Get("Content-Type") != "application/json" {
			http.Error(w, "wrong "+r.URL.Path, http.StatusTeapot)
			return
		}
		w.WriteHeader(http.StatusCreated)
		_, _ = w.Write([]byte("made"))
	}))
	defer server.Close()
	client := &Client{http: server.Client(), host: server.URL}
	if body, err := client.Do(http.MethodPost, "/api", []byte("{}"), http.StatusCreated); err != nil || string(body) != "made" {
		t.Errorf("%q, %v", body, err)
	}
	if _, err := client.Do(http.MethodPost, "/other", nil, http.StatusCreated); err == nil {
		t.Error("another status is no error")
	}
}
