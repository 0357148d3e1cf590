package healthprobe

import (
	"context"
	"errors"
	"net"
)

// Free tells which of the TCP addresses another program listens on, each as
// host:port. Ask before a program is started that would end the process over one,
// or would leave its health to be answered by a stranger.
func Free(ctx context.Context, addresses ...string) error {
	var errs []error
	for _, address := range addresses {
		l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l.Close()
	}
	return errors.Join(errs...)
}
