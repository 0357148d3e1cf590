package join

import (
	"strings"
	"testing"
)

func TestCheckSkew(t *testing.T) {
	for _, c := range []struct{ own, server, want string }{
		{"v1.36.3+cleat1", "v1.36.3+cleat1", ""},
		{"v1.36.0", "v1.36.9", ""},
		{"v1.36.3", "v1.37.0+cleat2", ""},
		{"v1.37.0", "v1.36.3", ""},
		{"v1.36.3", "v1.38.0", "upgrade this node"},
		{"v1.38.0-rc.1", "v1.36.3", "upgrade the server"},
		{"v2.36.3", "v1.36.3", "upgrade the server"},
		{"v1.36.3", "", `version ""`},
		{"v1.36.3", "one", `version "one"`},
	} {
		err := checkSkew(c.own, c.server)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("node %s, server %s: %v, want %q", c.own, c.server, err, c.want)
		}
	}
}
