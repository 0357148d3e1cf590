package config

import "testing"

func TestServerURL(t *testing.T) {
	tests := []struct {
		bind, nodeIP, want string
	}{
		{"0.0.0.0", "10.0.0.1", "https://127.0.0.1:6443"},
		{"::", "10.0.0.1", "https://127.0.0.1:6443"},
		{"::", "fd00::1", "https://[::1]:6443"},
		{"10.0.0.1", "10.0.0.1", "https://10.0.0.1:6443"},
		{"fd00::1", "fd00::1", "https://[fd00::1]:6443"},
	}
	for _, tt := range tests {
		o := Options{BindAddress: tt.bind, NodeIP: []string{tt.nodeIP}, HTTPSListenPort: 6443}
		if got := o.ServerURL(); got != tt.want {
			t.Errorf("bind %s, node %s: got %s, want %s", tt.bind, tt.nodeIP, got, tt.want)
		}
	}
}
