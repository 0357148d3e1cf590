package datastore

import (
	"context"
	"errors"
	"net"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/cleat-dev/cleat/hostabi"
)

// kv speaks as much of the etcd protocol as the probe needs, and can be told
// to misbehave.
type kv struct {
	pb.UnimplementedKVServer

	mu       sync.Mutex
	revision int64
	values   map[string]*mvccpb.KeyValue
	readOnly bool // refuses writes
	forgets  bool // accepts writes and drops them
	writes   int  // asked for
}

func newKV() *kv { return &kv{values: map[string]*mvccpb.KeyValue{}} }

func (s *kv) with(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

func (s *kv) Range(_ context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	res := &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: s.revision}}
	if v, ok := s.values[string(r.Key)]; ok {
		res.Kvs = []*mvccpb.KeyValue{v}
	}
	return res, nil
}

func (s *kv) Txn(_ context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	if s.readOnly {
		return nil, errors.New("attempt to write a readonly database")
	}
	put := r.Success[0].GetRequestPut()
	var revision int64
	if v, ok := s.values[string(put.Key)]; ok {
		revision = v.ModRevision
	}
	ok := r.Compare[0].GetModRevision() == revision
	if ok && !s.forgets {
		s.revision++
		s.values[string(put.Key)] = &mvccpb.KeyValue{Key: put.Key, Value: put.Value, ModRevision: s.revision}
	}
	return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: s.revision}, Succeeded: ok}, nil
}

// serve is a Driver.
func (s *kv) serve(ctx context.Context, socket string, _ hostabi.DatastorePlan) error {
	var listen net.ListenConfig
	listener, err := listen.Listen(ctx, "unix", socket)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, s)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	<-ctx.Done()
	server.Stop()
	return <-served
}
