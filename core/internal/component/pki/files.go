package pki

import (
	"net/netip"

	"github.com/cleat-dev/cleat/core/internal/paths"
	certs "github.com/cleat-dev/cleat/core/internal/pki"
)

// Pair is a certificate's file and its key's.
type Pair struct{ Cert, Key string }

// Files names every file that the control plane's components are started with.
type Files struct {
	ServerCA        Pair   // signs what serves TLS
	ClientCA        Pair   // signs users: --client-ca-file
	RequestHeaderCA Pair   // --requestheader-client-ca-file
	ServiceAccount  string // private key: --service-account-signing-key-file and -key-file

	Serving       Pair // the API server's and supervisor's listener: --tls-cert-file
	Loopback      Pair // of what answers on 127.0.0.1 alone, for its health and metrics
	KubeletClient Pair // --kubelet-client-certificate
	FrontProxy    Pair // --proxy-client-cert-file
	AdminCert     Pair

	schedulerCert, controllerManagerCert, cloudControllerCert, deployerCert, supervisorCert Pair

	// Kubeconfigs, 0600.
	Admin             string
	Scheduler         string
	ControllerManager string
	CloudController   string
	Deployer          string
	Supervisor        string
}

// Users and groups of the certificates made here.
const (
	UserAPIServer       = "kube-apiserver"    // towards kubelets
	UserFrontProxy      = "system:auth-proxy" // --requestheader-allowed-names
	UserAdmin           = "system:admin"      //
	UserScheduler       = "system:kube-scheduler"
	UserControllers     = "system:kube-controller-manager"
	UserCloudController = "cleat-cloud-controller" // needs a role binding of ours
	UserDeployer        = "cleat-deployer"
	UserSupervisor      = "cleat-supervisor"

	groupMasters = "system:masters"
)

// FilesOf returns the names of the files of a data directory.
func FilesOf(data paths.Data) Files {
	pair := func(cert, key string) Pair { return Pair{data.TLS(cert), data.TLS(key)} }
	leaf := func(name string) Pair { return pair(name+".crt", name+".key") }
	cred := func(name string) string { return data.Cred(name + ".kubeconfig") }
	return Files{
		ServerCA:        pair(certs.ServerCACert, certs.ServerCAKey),
		ClientCA:        pair(certs.ClientCACert, certs.ClientCAKey),
		RequestHeaderCA: pair(certs.RequestHeaderCACert, certs.RequestHeaderCAKey),
		ServiceAccount:  data.TLS(certs.ServiceAccountKey),

		Serving:       leaf("serving-kube-apiserver"),
		Loopback:      leaf("serving-loopback"),
		KubeletClient: leaf("client-kube-apiserver"),
		FrontProxy:    leaf("client-auth-proxy"),
		AdminCert:     leaf("client-admin"),

		schedulerCert:         leaf("client-scheduler"),
		controllerManagerCert: leaf("client-controllermanager"),
		cloudControllerCert:   leaf("client-cloudcontroller"),
		deployerCert:          leaf("client-deployer"),
		supervisorCert:        leaf("client-supervisor"),

		Admin:             cred("admin"),
		Scheduler:         cred("scheduler"),
		ControllerManager: cred("controllermanager"),
		CloudController:   cred("cloudcontroller"),
		Deployer:          cred("deployer"),
		Supervisor:        cred("supervisor"),
	}
}

type signer int

const (
	serverCA signer = iota
	clientCA
	requestHeaderCA
)

// identity is one row: who, signed by whom, kept where.
type identity struct {
	signer     signer
	pair       Pair
	leaf       certs.Leaf
	kubeconfig string // "" if it needs none, or one of another kind
}

func identities(f Files, serving certs.Leaf) []identity {
	client := func(user string, groups ...string) certs.Leaf {
		return certs.Leaf{CommonName: user, Organization: groups, Client: true}
	}
	return []identity{
		{serverCA, f.Serving, serving, ""},
		// Without one, scheduler and controller manager each make two RSA keys at
		// every start, half a second of a processor.
		{serverCA, f.Loopback, certs.Leaf{
			CommonName: "localhost", Server: true, DNSNames: []string{"localhost"}, IPs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1})},
		}, ""},
		// The API server reaches into every kubelet for logs and exec.
		{clientCA, f.KubeletClient, client(UserAPIServer, groupMasters), ""},
		{requestHeaderCA, f.FrontProxy, client(UserFrontProxy), ""},
		{clientCA, f.AdminCert, client(UserAdmin, groupMasters), ""},
		{clientCA, f.schedulerCert, client(UserScheduler), f.Scheduler},
		{clientCA, f.controllerManagerCert, client(UserControllers), f.ControllerManager},
		{clientCA, f.cloudControllerCert, client(UserCloudController), f.CloudController},
		// It applies whatever an administrator puts into the manifests directory.
		{clientCA, f.deployerCert, client(UserDeployer, groupMasters), f.Deployer},
		{clientCA, f.supervisorCert, client(UserSupervisor, groupMasters), f.Supervisor},
	}
}
