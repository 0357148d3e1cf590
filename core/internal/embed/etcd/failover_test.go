package etcd

import (
	"context"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/cleat-dev/cleat/core/kernel/kerneltest"
	"github.com/cleat-dev/cleat/hostabi"
)

// lonely is a member that can be cut off from its etcd: it accepts
// connections and requests all the same.
type lonely struct {
	pb.UnimplementedKVServer
	cut  atomic.Bool
	mute atomic.Bool // does not even say that it is
	puts atomic.Int64
	url  string
}

func newLonely(t *testing.T) *lonely {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := &lonely{url: "http://" + listener.Addr().String()}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, l)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-done
	})
	return l
}

func (l *lonely) answer(ctx context.Context) error {
	if l.mute.Load() {
		<-ctx.Done()
		return ctx.Err()
	}
	if l.cut.Load() {
		return status.Error(codes.Unavailable, "etcdserver: no leader")
	}
	return nil
}

func (l *lonely) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: &pb.ResponseHeader{}}, l.answer(ctx)
}

func (l *lonely) Put(ctx context.Context, _ *pb.PutRequest) (*pb.PutResponse, error) {
	if err := l.answer(ctx); err != nil {
		return nil, err
	}
	l.puts.Add(1)
	return &pb.PutResponse{Header: &pb.ResponseHeader{}}, nil
}

func TestAMemberIsCutOff(t *testing.T) {
	for name, breakIt := range map[string]func(l *lonely) *atomic.Bool{
		"says so": func(l *lonely) *atomic.Bool { return &l.cut },
		"is mute": func(l *lonely) *atomic.Bool { return &l.mute },
	} {
		t.Run(name, func(t *testing.T) {
			list := []*lonely{newLonely(t), newLonely(t)}
			socket, stop := start(t, hostabi.DatastorePlan{Endpoint: list[0].url + "," + list[1].url})
			client := dial(t, socket)
			put := func(ctx context.Context) error {
				_, err := client.Put(ctx, "/test/a", "x")
				return err
			}
			// One client, one connection: whoever has the first write has it.
			eventually(t, put)
			first, second := list[0], list[1]
			if second.puts.Load() > 0 {
				first, second = second, first
			}
			for range 2 { // there and back again
				broken := breakIt(first)
				broken.Store(true)
				eventually(t, put)
				if second.puts.Load() == 0 {
					t.Fatal("a write succeeded, but not with the other member")
				}
				// Without a member that is up, a connection stays where it is.
				breakIt(second).Store(true)
				ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
				if err := put(ctx); err == nil {
					t.Error("a write succeeds with nobody")
				}
				cancel()
				second.puts.Store(0)
				broken.Store(false)
				eventually(t, put)
				if first.puts.Load() == 0 {
					t.Fatal("a write succeeded, but not with the member that is back")
				}
				breakIt(second).Store(false)
			}
			if err := stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// A client that comes before etcd is there waits for it.
func TestEtcdComesLate(t *testing.T) {
	address := freeURL(t, "http")
	socket, stop := start(t, hostabi.DatastorePlan{Endpoint: address.String()})
	client := dial(t, socket)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := client.Put(ctx, "/test/a", "x"); err == nil {
		t.Fatal("a write succeeds with nobody")
	}
	listener, err := net.Listen("tcp", address.Host)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, &lonely{})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	defer func() {
		server.Stop()
		<-done
	}()
	eventually(t, func(ctx context.Context) error {
		_, err := client.Put(ctx, "/test/a", "x")
		return err
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
}

func TestLeavesNothingBehind(t *testing.T) {
	l := newLonely(t)
	kerneltest.NoLeaks(t)
	socket, stop := start(t, hostabi.DatastorePlan{Endpoint: l.url + ",http://127.0.0.1:1"})
	client := dial(t, socket)
	eventually(t, func(ctx context.Context) error {
		_, err := client.Put(ctx, "/test/a", "x")
		return err
	})
	if err := stop(); err != nil {
		t.Error(err)
	}
	_ = client.Close() // says only that it is closed
}

func TestOrder(t *testing.T) {
	m, err := newMembers(hostabi.DatastorePlan{Endpoint: "http://a:1,http://b:1,http://c:1"}, quiet())
	if err != nil {
		t.Fatal(err)
	}
	m.next = 0
	orders := func() string {
		var texts []string
		for range 3 {
			text := ""
			for _, one := range m.order() {
				text += one.name
			}
			texts = append(texts, text)
		}
		return strings.Join(texts, " ")
	}
	if got := orders(); got != "abc bca cab" {
		t.Errorf("all the same: %s", got)
	}
	m.set(m.list[0], down, nil)
	m.set(m.list[2], up, nil)
	if got := orders(); got != "cba cba cba" {
		t.Errorf("a is down, c is up: %s", got)
	}
}
