package containerd

import (
	"context"
	"fmt"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
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

// probe returns nil when the runtime speaks CRI v1 and says that it is ready.
// Its network may still be missing: that is another unit's work.
func (c *criClient) probe(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	// A refused connection is retried by gRPC only after a pause.
	c.conn.ResetConnectBackoff()
	if _, err := c.runtime.Version(ctx, &cri.VersionRequest{}); err != nil {
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
