package healthprobe

import (
	"net"
	"strings"
	"testing"
)

func TestFree(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	free := other.Addr().String()
	other.Close()
	if err := Free(t.Context(), free); err != nil {
		t.Errorf("a free port: %v", err)
	}
	if err := Free(t.Context(), free, taken.Addr().String()); err == nil || !strings.Contains(err.Error(), taken.Addr().String()+": bind: address already in use") {
		t.Errorf("got %v, want the port that is taken", err)
	}
	taken.Close()
	if err := Free(t.Context(), taken.Addr().String()); err != nil {
		t.Errorf("asking took the port: %v", err)
	}
}
