package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cleat-dev/cleat/core/kernel"
)

// How often a member is asked, and how long it may take. A member that failed
// is asked again sooner, and counts as down after a second failure.
const (
	askEvery   = 5 * time.Second
	askAgain   = time.Second
	askTimeout = 4 * time.Second
	failures   = 2
)

// askedFor is the key that is read, which need not be there.
const askedFor = "/cleat/probe"

// watch asks the member for as long as ctx lasts whether it answers for its
// etcd. A member that has lost the others accepts connections like any other;
// that it cannot read shows only when it is asked to.
func (m *members) watch(ctx context.Context, one *member) {

	conn, err := grpc.NewClient("passthrough:///"+one.host,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is dial's
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return one.dial(ctx) }),
	)
	if err != nil {
		m.set(one, down, err)
		return
	}
	defer conn.Close()
	kv := pb.NewKVClient(conn)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for failed := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		if err = ask(ctx, kv); ctx.Err() != nil {
			return
		}
		if err == nil {
			failed = 0
			m.set(one, up, nil)
			timer.Reset(askEvery)
			continue
		}
		if failed++; failed >= failures {
			m.set(one, down, err)
			kernel.Report(ctx, "%s", fmt.Errorf("etcd member %s: %w", one.host, err))
		}
		timer.Reset(askAgain)
	}
}

// ask reads a key through the member. Only an etcd that agrees with itself can
// answer.
func ask(ctx context.Context, kv pb.KVClient) error {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(askedFor)})
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.DataLoss, codes.Unknown:
		return errors.New(s.Message())
	}
	return nil // an error of any other kind is an answer
}
