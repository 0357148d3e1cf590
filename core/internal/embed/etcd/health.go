package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cleat-dev/cleat/core/kernel"
)

// pace is how often a member is asked, and how long it may take. One that failed
// is asked again sooner, and counts as down after a second failure.
type pace struct{ every, again, timeout time.Duration }

func normalPace() pace {
	return pace{every: 5 * time.Second, again: time.Second, timeout: 4 * time.Second}
}

const failures = 2

// askedFor is the key that is read, which need not be there.
const askedFor = "/cleat/probe"

// watch asks the member for as long as ctx lasts whether it answers for its
// etcd. A member that has lost the others accepts connections like any other;
// that it cannot read shows only when it is asked to.
func (m *members) watch(ctx context.Context, one *member) {

	conn, err := grpc.NewClient("passthrough:///"+one.host,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // TLS is dial's
		// Left to itself grpc would come back after minutes.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 20 * time.Millisecond, Multiplier: 1.5, MaxDelay: m.pace.again},
			MinConnectTimeout: dialTimeout,
		}),
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
		if err = ask(ctx, kv, m.pace.timeout); ctx.Err() != nil {
			return
		}
		if err == nil {
			failed = 0
			m.set(one, up, nil)
			timer.Reset(m.pace.every)
			continue
		}
		if failed++; failed >= failures {
			m.set(one, down, err)
			kernel.Report(ctx, "%s", fmt.Errorf("etcd member %s: %w", one.host, err))
		}
		timer.Reset(m.pace.again)
	}
}

// ask reads a key through the member. Only an etcd that agrees with itself can
// answer.
func ask(ctx context.Context, kv pb.KVClient, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	_, err := kv.Range(ctx, &pb.RangeRequest{Key: []byte(askedFor)})
	switch s := status.Convert(err); s.Code() {
	case codes.Unavailable, codes.DeadlineExceeded, codes.DataLoss, codes.Unknown:
		return errors.New(s.Message())
	}
	return nil // an error of any other kind is an answer
}
