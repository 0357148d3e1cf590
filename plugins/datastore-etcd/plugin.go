// Command datastore-etcd is the cleat plugin that keeps cluster state in an
// etcd that somebody else runs.
package main

import (
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
	"github.com/cleat-dev/cleat/pluginsdk"
	"github.com/cleat-dev/cleat/pluginsdk/datastore"
	"github.com/cleat-dev/cleat/pluginsdk/plan"
)

func main() {}

func init() {
	p := &plugin{}
	pluginsdk.OnInit(p.configure)
	datastore.Register(p.plan)
}

// plugin decides with its configuration.
type plugin struct {
	tls hostabi.TLSFiles // has the names of the configuration's keys
}

func (p *plugin) configure() error {
	p.tls = hostabi.TLSFiles{}
	if err := plan.Config(&p.tls); err != nil {
		return err
	}
	for _, file := range []struct{ key, path string }{
		{"ca_file", p.tls.CAFile}, {"cert_file", p.tls.CertFile}, {"key_file", p.tls.KeyFile},
	} {
		if file.path != "" && !path.IsAbs(file.path) {
			return fmt.Errorf("config %s: %q is not absolute; write the whole path", file.key, file.path)
		}
	}
	switch {
	case p.tls.CertFile != "" && p.tls.KeyFile == "":
		return errors.New("config key_file: missing; cert_file needs its key")
	case p.tls.KeyFile != "" && p.tls.CertFile == "":
		return errors.New("config cert_file: missing; key_file needs its certificate")
	}
	return nil
}

func (p *plugin) plan(req hostabi.DatastoreRequest) (hostabi.DatastorePlan, error) {
	if !mine(req.Endpoint) {
		return hostabi.DatastorePlan{}, plan.ErrNotMine
	}
	e, err := parseEndpoints(req.Endpoint)
	if err != nil {
		return hostabi.DatastorePlan{}, err
	}
	if e.scheme == "http" && p.tls != (hostabi.TLSFiles{}) {
		return hostabi.DatastorePlan{}, errors.New("datastore-endpoint: ca_file, cert_file and key_file are set, but http:// uses none of them; write https://")
	}
	if host := e.plain(); host != "" {
		pluginsdk.Log(pluginsdk.Warn, "etcd at "+host+" is reached over http: every Secret of the cluster crosses the network unencrypted; use https")
	}
	return hostabi.DatastorePlan{
		Driver:      hostabi.DatastoreDriverEtcd,
		Endpoint:    e.String(),
		Description: "etcd at " + strings.Join(e.hosts, ", "),
		TLS:         p.tls,
		Shared:      true,
		// The API server compacts etcd itself.
	}, nil
}
