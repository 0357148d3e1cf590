package quirks

import (
	"time"

	"k8s.io/client-go/transport"
)

// FollowCertificates sets how often every client of the API server and of kubelets
// looks whether the file of its certificate has changed. Upstream looks every five
// minutes, which is too seldom for certificates that live for minutes. Call it
// before the first client is made.
func FollowCertificates(every time.Duration) {
	transport.CertCallbackRefreshDuration = min(every, transport.CertCallbackRefreshDuration)
}
