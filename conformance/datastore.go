package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/cleat-dev/cleat/hostabi"
)

// secret is a password that is in endpoints and must be in no text.
const secret = "c0nformance-Secret"

// datastoreChecks are about plugins of the point datastore.
func datastoreChecks() []check {
	return at(hostabi.PointDatastore,
		core("datastore/endpoints", "cleat_datastore_plan",
			"The hook plans for an endpoint, leaves it to others, or says why it cannot be used.", asked(), checkEndpoints),
		core("datastore/odd-endpoints", "cleat_datastore_plan",
			"An endpoint can be any text.", []string{"datastore/endpoints"}, checkOddEndpoints),
		core("datastore/secret-kept", "error_set",
			"An endpoint may hold a password: it is in no error, no log line and no description of a plan.", []string{"datastore/endpoints"}, checkSecret),
		core("datastore/deterministic", "Rules",
			"Two new instances plan the same for the same endpoint, byte for byte.", []string{"datastore/endpoints"}, checkDatastoreDeterministic),
	)
}

func usualDatastore() hostabi.DatastoreRequest {
	return hostabi.DatastoreRequest{DBDir: "/var/lib/cleat/server/db", NodeName: "conformance"}
}

func endpoint(text string) hostabi.DatastoreRequest {
	r := usualDatastore()
	r.Endpoint = text
	return r
}

func (s *subject) typicalEndpoints() []hostabi.DatastoreRequest {
	var all []hostabi.DatastoreRequest
	for _, c := range s.cases {
		if c.Datastore != nil && len(all) < maxCasesAsked {
			all = append(all, *c.Datastore)
		}
	}
	all = append(all, usualDatastore())
	for _, scheme := range []string{"sqlite", "mysql", "postgres", "postgresql", "nats", "http", "https", "etcd", "unix", "conformance"} {
		all = append(all, endpoint(scheme+"://"), endpoint(scheme+"://db.local:1234/state"))
	}
	return all
}

// planStores checks that the plugin answers for every endpoint.
func (s *subject) planStores(ctx context.Context, question string, all []hostabi.DatastoreRequest) (finding, error) {
	return s.share(ctx, func(g *guest) (finding, error) {
		for _, r := range all {
			a, err := g.datastore(ctx, question, r)
			if err != nil {
				return finding{}, err
			}
			if a.broke() {
				return failed("%s", a)
			}
		}
		return passed("answered for %d endpoints", len(all))
	})
}

func checkEndpoints(ctx context.Context, s *subject) (finding, error) {
	return s.planStores(ctx, "an endpoint", s.typicalEndpoints())
}

func checkOddEndpoints(ctx context.Context, s *subject) (finding, error) {
	var all []hostabi.DatastoreRequest
	for _, text := range []string{" ", ":", "://", "/", "a", "@", "://@/", "mysql://", "mysql://tcp(", "postgres://[::1", "%zz://%", "https://a,https://b,",
		"\u00e4://\U0001f40b", "sqlite:///\x00", "nats://h?x=%", strings.Repeat("x", 5000)} {
		all = append(all, endpoint(text))
	}
	nowhere := usualDatastore()
	nowhere.DBDir, nowhere.NodeName = "", ""
	return s.planStores(ctx, "an odd endpoint", append(all, nowhere))
}

func checkSecret(ctx context.Context, s *subject) (finding, error) {
	return s.with(ctx, start{}, func(g *guest) (finding, error) {
		var all []string
		for _, scheme := range []string{"mysql", "postgres", "nats", "http", "https", "etcd", "conformance"} {
			all = append(all, scheme+"://user:"+secret+"@db.local:1234/state", scheme+"://user:"+secret+"@", scheme+"://user:"+secret+"@tcp(db.local:x)/?%")
		}
		for _, text := range append(all, "user:"+secret+"@db.local") {
			a, err := g.datastore(ctx, "an endpoint with a password", endpoint(text))
			if err != nil {
				return finding{}, err
			}
			plan, _ := a.Plan.(hostabi.DatastorePlan)
			scheme, _, _ := strings.Cut(text, "user:")
			for where, told := range map[string]string{"its error": a.Detail, "the description of its plan": plan.Description, "the log": g.log.String()} {
				if strings.Contains(told, secret) {
					return failed("told the password of %suser:…@ in %s", scheme, where)
				}
			}
		}
		return passed("told no password")
	})
}

func checkDatastoreDeterministic(ctx context.Context, s *subject) (finding, error) {
	return s.twice(ctx, func(g *guest) (all []answer, err error) {
		for _, r := range s.typicalEndpoints() {
			a, err := g.datastore(ctx, "an endpoint", r)
			if err != nil {
				return nil, err
			}
			all = append(all, a)
		}
		return all, nil
	})
}

// wrongDatastore says what is wrong with a plan, "" if nothing.
func wrongDatastore(p hostabi.DatastorePlan) string {
	drivers := []string{hostabi.DatastoreDriverKine, hostabi.DatastoreDriverEtcd}
	switch {
	case !slices.Contains(drivers, p.Driver):
		return fmt.Sprintf("driver is %q, none of %s", p.Driver, strings.Join(drivers, ", "))
	case p.Endpoint == "":
		return "endpoint is empty"
	case p.Pool.MaxOpen < 0 || p.Pool.MaxIdle < 0 || p.Pool.ConnMaxLifetimeSeconds < 0:
		return "pool has a number below 0"
	case p.Compaction.IntervalSeconds < 0 || p.Compaction.TimeoutSeconds < 0 || p.Compaction.MinRetain < 0 || p.Compaction.BatchSize < 0:
		return "compaction has a number below 0"
	case (p.TLS.CertFile == "") != (p.TLS.KeyFile == ""):
		return "tls has a certificate without key, or a key without certificate"
	}
	return ""
}
