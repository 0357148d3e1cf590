package containerd

import (
	"context"
	"fmt"
	"strings"
	"time"

	introspection "github.com/containerd/containerd/api/services/introspection/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const probeTimeout = 2 * time.Second

// criClient asks the runtime whether it is up. The connection is made on the
// first call and again after it broke.
type criClient struct {
	conn    *grpc.ClientConn
	runtime cri.RuntimeServiceClient
}

func dialCRI(endpoint string) (*criClient, error) {
	conn, err := grpc.NewClient(endpoint,
		// The socket's permissions are its protection.
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithNoProxy(),
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: probeTimeout}))
	if err != nil {
		return nil, fmt.Errorf("container-runtime-endpoint: %q: %w", endpoint, err)
	}
	return &criClient{conn: conn, runtime: cri.NewRuntimeServiceClient(conn)}, nil
}

func (c *criClient) close() { _ = c.conn.Close() }

// noCRI says that containerd runs without its CRI plugin and will not get it.
type noCRI struct{ why string }

func (e noCRI) Error() string {
	return "containerd runs, but its CRI plugin did not start: " + e.why
}

// missing asks containerd why plugins that the CRI needs did not start; "" if it
// knows of none.
func (c *criClient) missing(ctx context.Context) string {
	answer, err := introspection.NewIntrospectionClient(c.conn).Plugins(ctx, &introspection.PluginsRequest{})
	if err != nil {
		return ""
	}
	var all []string
	for _, p := range answer.Plugins {
		if p.InitErr == nil || !strings.Contains(p.Type+p.ID, "cri") {
			continue
		}
		all = append(all, fmt.Sprintf("%s.%s: %s", p.Type, p.ID, p.InitErr.Message))
	}
	why := strings.Join(all, "; ")
	if strings.Contains(why, "inotify") || strings.Contains(why, "too many open files") {
		why += "; raise the sysctl fs.inotify.max_user_instances, of which other programs of root have taken all"
	}
	return why
}

// probe returns nil when the runtime speaks CRI v1 and says that it is ready.
// Its network may still be missing: that is another unit's work.
func (c *criClient) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// A refused connection is retried by gRPC only after a pause.
	c.conn.ResetConnectBackoff()
	if _, err := c.runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
		if status.Code(err) == codes.Unimplemented {
			if why := c.missing(ctx); why != "" {
				return noCRI{why}
			}
		}
		return fmt.Errorf("CRI version at %s: %w", c.conn.Target(), err)
	}
	answer, err := c.runtime.Status(ctx, &cri.StatusRequest{})
	if err != nil {
		return fmt.Errorf("CRI status at %s: %w", c.conn.Target(), err)
	}
	for _, condition := range answer.GetStatus().GetConditions() {
		if condition.GetType() == cri.RuntimeReady {
			if condition.GetStatus() {
				return nil
			}
			return fmt.Errorf("CRI at %s: runtime not ready: %s %s", c.conn.Target(), condition.GetReason(), condition.GetMessage())
		}
	}
	return fmt.Errorf("CRI at %s: status holds no condition %s", c.conn.Target(), cri.RuntimeReady)
}
