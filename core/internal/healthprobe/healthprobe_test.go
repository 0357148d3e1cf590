package healthprobe

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string // in the error, "" = no error
	}{
		{"well", http.StatusOK, "ok", ""},
		{"names what failed", http.StatusInternalServerError, "[+]ping ok\n[-]etcd failed: reason withheld\n[-]poststarthook/rbac failed: not finished\n", "etcd failed: reason withheld; poststarthook/rbac failed: not finished"},
		{"quotes a short answer", http.StatusServiceUnavailable, "starting\nmore", ": starting"},
		{"an empty answer", http.StatusTeapot, "", "418"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			p := New(server.URL+"/readyz", nil)
			defer p.Close()
			err := p.Check(t.Context())
			switch {
			case tt.want == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
				t.Errorf("got %v, want an error with %q", err, tt.want)
			}
		})
	}
}
