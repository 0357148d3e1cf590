package quirks

import (
	"testing"
	"time"

	"k8s.io/client-go/transport"
)

func TestFollowCertificates(t *testing.T) {
	upstream := transport.CertCallbackRefreshDuration
	t.Cleanup(func() { transport.CertCallbackRefreshDuration = upstream })
	FollowCertificates(time.Hour)
	if got := transport.CertCallbackRefreshDuration; got != upstream || upstream > 5*time.Minute {
		t.Errorf("certificates that live long are looked at every %v, upstream's is %v", got, upstream)
	}
	FollowCertificates(time.Second)
	if got := transport.CertCallbackRefreshDuration; got != time.Second {
		t.Errorf("looked at every %v", got)
	}
}
