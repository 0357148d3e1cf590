package cli

import (
	"strings"
	"testing"
)

func TestAsk(t *testing.T) {
	for answer, want := range map[string]bool{"yes\n": true, " yes ": true, "y\n": false, "\n": false, "": false, "no\nyes\n": false} {
		var out strings.Builder
		if err := ask(&out, strings.NewReader(answer)); (err == nil) != want {
			t.Errorf("%q: %v", answer, err)
		}
		if !strings.Contains(out.String(), "yes") {
			t.Errorf("asked %q", out.String())
		}
	}
}
