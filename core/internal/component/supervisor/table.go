package supervisor

import (
	"net/http"
	"strings"

	"github.com/cleat-dev/cleat/core/internal/joinapi"
	"github.com/cleat-dev/cleat/core/internal/statuspage"
)

// access is who may use a route.
type access int

const (
	anyone   access = iota
	members         // who holds the join token, and nodes with their certificate
	self            // as members, but with a node's certificate only for that node
	servers         // who holds the servers' token, and comes as user server
	nodes           // nodes with their certificate
	watchers        // administrators with their certificate, and sessions of the page
)

// route is one row of the table.
type route struct {
	path   string // exactly, as it is after decoding
	method string // GET is HEAD too
	who    access
	body   int64 // bytes; 0 takes none
	serve  func(*api, http.ResponseWriter, *http.Request)
}

// table is all that the supervisor answers itself. A row here needs one in
// TestTable too.
func table() []route {
	return []route{
		{joinapi.PathPing, http.MethodGet, anyone, 0, (*api).servePing},
		{joinapi.PathCACerts, http.MethodGet, anyone, 0, (*api).serveServerCA},
		{joinapi.PathServerCA, http.MethodGet, members, 0, (*api).serveServerCA},
		{joinapi.PathClientCA, http.MethodGet, members, 0, (*api).serveClientCA},
		{joinapi.PathConfig, http.MethodGet, members, 0, (*api).serveConfig},
		{joinapi.PathServers, http.MethodGet, members, 0, (*api).serveServers},
		{joinapi.PathReady, http.MethodGet, anyone, 0, (*api).serveReady},
		{joinapi.PathPlugins, http.MethodGet, members, 0, (*api).servePlugins},
		{joinapi.PathPlugin, http.MethodGet, members, 0, (*api).servePlugin},
		{joinapi.PathServingKubelet, http.MethodPost, self, joinapi.MaxRequestBody, (*api).serveCertificate},
		{joinapi.PathClientKubelet, http.MethodPost, self, joinapi.MaxRequestBody, (*api).serveCertificate},
		{joinapi.PathClientKubeProxy, http.MethodPost, self, joinapi.MaxRequestBody, (*api).serveCertificate},
		{joinapi.PathClientNetwork, http.MethodPost, self, joinapi.MaxRequestBody, (*api).serveCertificate},
		{joinapi.PathToken, http.MethodPut, servers, joinapi.MaxRotation, (*api).serveRotation},
		{joinapi.PathConnect, http.MethodGet, nodes, 0, (*api).serveTunnel},
		{statuspage.Prefix, http.MethodGet, anyone, 0, (*api).servePage},
		{statuspage.PathScript, http.MethodGet, anyone, 0, (*api).servePage},
		{statuspage.PathStyle, http.MethodGet, anyone, 0, (*api).servePage},
		{statuspage.PathSession, http.MethodPost, anyone, statuspage.MaxSessionBody, (*api).servePageSession},
		{statuspage.PathStream, http.MethodGet, watchers, 0, (*api).servePageStream},
	}
}

// owns reports whether the supervisor answers r: the paths of the table, and
// whatever else is below Prefix, so that no other handler ever gets a request
// that was meant for it.
func (a *api) owns(r *http.Request) bool {
	_, ok := a.table[r.URL.Path]
	return ok || strings.HasPrefix(r.URL.Path, joinapi.Prefix)
}
