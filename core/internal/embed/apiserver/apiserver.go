// Package apiserver runs kube-apiserver inside this process, through its
// options and its server chain, without a listener of its own: the supervisor
// owns the port and hands requests to the chain's handler.
package apiserver

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/spf13/pflag"
	utilnet "k8s.io/apimachinery/pkg/util/net"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/apiserver/pkg/server/egressselector"
	"k8s.io/apiserver/pkg/server/healthz"
	"k8s.io/client-go/informers"
	apiserverapp "k8s.io/kubernetes/cmd/kube-apiserver/app"
	"k8s.io/kubernetes/cmd/kube-apiserver/app/options"
	"k8s.io/kubernetes/plugin/pkg/admission/limitranger"

	"github.com/cleat-dev/cleat/core/extension"
	"github.com/cleat-dev/cleat/core/internal/embed/quirks"
)

// Server is an API server whose arguments were accepted.
type Server struct {
	options *options.ServerRunOptions
}

// Port is the TLS port that the API server is served on by somebody else.
type Port interface {
	// SetSNICertificate serves cert to clients that ask for the server called name.
	SetSNICertificate(name string, cert tls.Certificate)
	// SetHandler serves h from now on, nil ends that. The handler is the whole
	// chain (authentication, authorisation, aggregation) and expects the
	// client's certificate in the request's TLS state.
	SetHandler(h http.Handler)
}

// New parses args, each "--flag=value" as kube-apiserver takes them, and puts
// the plugins' admission into the chain. address is what clients dial; it
// becomes the endpoint of the kubernetes service and the loopback target.
func New(args []string, address *net.TCPAddr, plugins extension.Admission) (*Server, error) {
	o := options.NewServerRunOptions()
	o.SecureServing.Listener = newHeldListener(address)

	generic := o.Admission.GenericAdmission
	generic.Plugins.Register(admissionName, newAdmissionFactory(plugins))
	// Before LimitRanger and ServiceAccount: what a plugin writes into a pod
	// (a service account, whether its token is mounted) must be seen by them.
	at := slices.Index(generic.RecommendedPluginOrder, limitranger.PluginName)
	if at < 0 {
		return nil, fmt.Errorf("this kube-apiserver has no admission plugin %q to stand before", limitranger.PluginName)
	}
	generic.RecommendedPluginOrder = slices.Insert(slices.Clone(generic.RecommendedPluginOrder), at, admissionName)

	fs := pflag.NewFlagSet("kube-apiserver", pflag.ContinueOnError)
	for _, named := range o.Flags().FlagSets {
		fs.AddFlagSet(named)
	}
	if err := fs.Parse(args); err != nil {
		return nil, fmt.Errorf("--kube-apiserver-arg: %w", err)
	}
	return &Server{options: o}, nil
}

// Datastore is where the API server keeps its objects.
type Datastore struct {
	Endpoints                 []string
	CAFile, CertFile, KeyFile string
	// Kine compacts itself, every CompactionInterval (0 is never). The API server
	// has to keep the same time, or it answers for ever from its caches what the
	// store has forgotten. etcd leaves compaction to the API server.
	Kine               bool
	CompactionInterval time.Duration
}

// Check is a line of /readyz besides the API server's own: "[+]name ok", or with
// an error "[-]name failed". Why is told to those who may read /readyz/name.
type Check struct {
	ID    string
	Group string // ?exclude=group leaves the check out
	Probe func() error
}

// Name implements healthz.HealthChecker.
func (c Check) Name() string { return c.ID }

// GroupName implements healthz.GroupedHealthChecker.
func (c Check) GroupName() string { return c.Group }

// Check implements healthz.HealthChecker.
func (c Check) Check(*http.Request) error { return c.Probe() }

var _ healthz.GroupedHealthChecker = Check{}

// Egress dials kubelets and the endpoints of services and pods for the API server.
type Egress interface {
	// Follow is called once, before f is started.
	Follow(f informers.SharedInformerFactory) error
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// Run serves on port until ctx is done. The handler is there before the server
// is ready: readiness is what it answers to /readyz, where checks have a say. With
// egress nil the API server dials for itself.
func (s *Server) Run(ctx context.Context, store Datastore, port Port, egress Egress, checks []Check) error {
	storage := &s.options.Etcd.StorageConfig
	storage.Transport.ServerList = store.Endpoints
	storage.Transport.TrustedCAFile = store.CAFile
	storage.Transport.CertFile = store.CertFile
	storage.Transport.KeyFile = store.KeyFile
	if store.Kine {
		storage.CompactionInterval = store.CompactionInterval
		quirks.ShareDatastoreClient()
	}

	completed, err := s.options.Complete(ctx)
	if err != nil {
		return fmt.Errorf("complete options: %w", err)
	}
	if errs := completed.Validate(); len(errs) > 0 {
		return errors.Join(errs...)
	}
	config, err := apiserverapp.NewConfig(completed)
	if err != nil {
		return fmt.Errorf("configure: %w", err)
	}
	if err := divert(config, egress); err != nil {
		return err
	}
	// Its own clients dial as soon as they exist, which is while the chain is
	// built; a certificate they do not know would cost them a back-off.
	loopback, err := loopbackCertificate(config.KubeAPIs.ControlPlane.Generic.SecureServing)
	if err != nil {
		return err
	}
	port.SetSNICertificate(genericapiserver.LoopbackClientServerNameOverride, loopback)
	ready, err := config.Complete()
	if err != nil {
		return fmt.Errorf("complete configuration: %w", err)
	}
	// Left out of the chain, and put in when it is there. Some may be out for
	// another reason, as the roles are without the authorizer that reads them.
	disabled := config.KubeAPIs.ControlPlane.Generic.DisabledPostStartHooks
	var replaced []string
	for name := range founders() {
		if !disabled.Has(name) {
			replaced = append(replaced, name)
			disabled.Insert(name)
		}
	}
	chain, err := apiserverapp.CreateServerChain(ready)
	if err != nil {
		return fmt.Errorf("build the server chain: %w", err)
	}
	for _, c := range checks {
		if err := chain.GenericAPIServer.AddReadyzChecks(c); err != nil {
			return fmt.Errorf("check %s: %w", c.ID, err)
		}
	}
	for _, name := range replaced {
		disabled.Delete(name)
		if err := chain.GenericAPIServer.AddPostStartHook(name, founders()[name].hook); err != nil {
			return fmt.Errorf("founding hook: %w", err)
		}
	}
	prepared, err := chain.PrepareRun()
	if err != nil {
		return fmt.Errorf("prepare the server chain: %w", err)
	}
	port.SetHandler(chain.GenericAPIServer.Handler)
	defer port.SetHandler(nil)
	return prepared.Run(ctx)
}

// divert makes egress dial for what upstream calls the egress type "cluster". It
// comes after NewConfig and before CreateServerChain: webhooks read the dialer of
// the proxy transport with each client they make; the aggregator, the proxy
// subresources and the kubelets' client take theirs while the chain is built. An
// egress selector of the operator's own goes before ours.
func divert(config *apiserverapp.Config, egress Egress) error {
	control := &config.KubeAPIs.ControlPlane
	if egress == nil || control.Generic.EgressSelector != nil {
		return nil
	}
	if err := egress.Follow(control.Extra.VersionedInformers); err != nil {
		return fmt.Errorf("egress: %w", err)
	}
	control.Extra.ProxyTransport.DialContext = egress.Dial
	config.KubeAPIs.Extra.KubeletClientConfig.Lookup = func(egressselector.NetworkContext) (utilnet.DialFunc, error) {
		return egress.Dial, nil
	}
	return nil
}

// loopbackCertificate finds the certificate the chain made for its own clients.
func loopbackCertificate(info *genericapiserver.SecureServingInfo) (tls.Certificate, error) {
	for _, sni := range info.SNICerts {
		if !slices.Contains(sni.SNINames(), genericapiserver.LoopbackClientServerNameOverride) {
			continue
		}
		cert, key := sni.CurrentCertKeyContent()
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("loopback certificate: %w", err)
		}
		return pair, nil
	}
	return tls.Certificate{}, fmt.Errorf("the server chain made no certificate for %s", genericapiserver.LoopbackClientServerNameOverride)
}
