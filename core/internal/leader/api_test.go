package leader

import (
	"encoding/json"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

const (
	leasesPath = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
	leaseName  = "under-test"
)

// api serves one lease as the API server does: get, create, and update of the
// version last seen.
type api struct {
	mu      sync.Mutex
	lease   *coordinationv1.Lease
	version int
	down    bool
	changed chan struct{} // closed and replaced with every change and request
}

func newAPI(t *testing.T) (server *api, kubeconfigFile string) {
	t.Helper()
	server = &api{changed: make(chan struct{})}
	s := httptest.NewTLSServer(server)
	t.Cleanup(s.Close)
	config := clientcmdapi.NewConfig()
	config.Clusters["test"] = &clientcmdapi.Cluster{
		Server:                   s.URL,
		CertificateAuthorityData: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}),
	}
	config.Contexts["test"] = &clientcmdapi.Context{Cluster: "test"}
	config.CurrentContext = "test"
	kubeconfigFile = filepath.Join(t.TempDir(), "kubeconfig")
	if err := clientcmd.WriteToFile(*config, kubeconfigFile); err != nil {
		t.Fatal(err)
	}
	return server, kubeconfigFile
}

func (s *api) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.notify()
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<20))
	switch {
	case err != nil:
		http.Error(w, err.Error(), http.StatusBadRequest)
	case s.down:
		status(w, http.StatusInternalServerError, metav1.StatusReasonInternalError)
	case r.Method == http.MethodGet && r.URL.Path == leasesPath+"/"+leaseName:
		if s.lease == nil {
			status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
			return
		}
		reply(w, http.StatusOK, s.lease)
	case r.Method == http.MethodPost && r.URL.Path == leasesPath:
		if s.lease != nil {
			status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
		s.store(w, body, http.StatusCreated)
	case r.Method == http.MethodPut && r.URL.Path == leasesPath+"/"+leaseName:
		s.store(w, body, http.StatusOK)
	default:
		status(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed)
	}
}

func (s *api) store(w http.ResponseWriter, body []byte, code int) {
	object, _, err := scheme.Codecs.UniversalDeserializer().Decode(body, nil, nil) // protobuf or JSON
	lease, ok := object.(*coordinationv1.Lease)
	if err != nil || !ok {
		status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	if s.lease != nil && lease.ResourceVersion != s.lease.ResourceVersion {
		status(w, http.StatusConflict, metav1.StatusReasonConflict)
		return
	}
	s.set(lease)
	reply(w, code, s.lease)
}

func (s *api) set(lease *coordinationv1.Lease) {
	s.version++
	lease.ResourceVersion = strconv.Itoa(s.version)
	lease.APIVersion, lease.Kind = "coordination.k8s.io/v1", "Lease"
	s.lease = lease
}

func (s *api) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// hold writes the lease as another server would that took it now, or gave it
// up if holder is "".
func (s *api) hold(holder string, seconds int32) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := metav1.NowMicro()
	s.set(&coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: leaseName, Namespace: "kube-system"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: &holder, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now,
		},
	})
	s.notify()
}

// fail makes every request fail, or no longer.
func (s *api) fail(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// holder is who holds the lease, "" if nobody does.
func (s *api) holder() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease == nil || s.lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *s.lease.Spec.HolderIdentity
}

// writes counts the versions of the lease.
func (s *api) writes() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.version
}

// eventually waits, looking after each request, until is holds.
func (s *api) eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		select {
		case <-changed:
		case <-tick.C:
		case <-deadline.C:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func reply(w http.ResponseWriter, code int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(v) // the client's error is the test's
}

func status(w http.ResponseWriter, code int32, reason metav1.StatusReason) {
	reply(w, int(code), metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"},
		Status:   metav1.StatusFailure, Code: code, Reason: reason, Message: string(reason),
	})
}
