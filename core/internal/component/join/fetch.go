package join

import (
	"context"
	"fmt"
	"os"
	"time"
)

// fetchTimeout bounds one answer of up to megabytes over a slow line.
const fetchTimeout = 2 * time.Minute

// Fetch asks the server for a path below joinapi.Prefix, as the node that this
// machine has become; it is an error to ask before the unit is ready. The answer
// has at most limit bytes.
func (j *Join) Fetch(ctx context.Context, path string, limit int64) ([]byte, error) {
	m, err := j.newMember()
	if err != nil {
		return nil, err
	}
	defer m.close()
	bundle, err := os.ReadFile(j.files.ServerCA)
	if err != nil {
		return nil, fmt.Errorf("join: not ready yet: %w", err)
	}
	if err := m.client.pin(bundle); err != nil {
		return nil, err
	}
	m.client.asMember = m.isMember()
	m.client.limit, m.client.pinned.Timeout = limit, fetchTimeout
	return m.client.get(ctx, path)
}
