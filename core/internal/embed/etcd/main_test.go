package etcd

import (
	"os"
	"testing"

	"github.com/cleat-dev/cleat/core/internal/nettest"
)

// The tests choose ports and use them later.
func TestMain(m *testing.M) { os.Exit(nettest.Main(m, nettest.Loopback)) }
