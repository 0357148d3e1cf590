package bootstrap

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"github.com/cleat-dev/cleat/core/internal/etcdstore"
)

// limitedKV speaks as much of the etcd protocol as kine does: reads, lists,
// and transactions of exactly two shapes. Anything else is an error.
type limitedKV struct {
	pb.UnimplementedKVServer
	memory *memory
}

func (s *limitedKV) Range(ctx context.Context, r *pb.RangeRequest) (*pb.RangeResponse, error) {
	res := &pb.RangeResponse{Header: &pb.ResponseHeader{}}
	if len(r.RangeEnd) > 0 {
		end := string(r.RangeEnd[:len(r.RangeEnd)-1]) + string(r.RangeEnd[len(r.RangeEnd)-1]-1)
		if end != string(r.Key) {
			return nil, errors.New("a range that is no prefix")
		}
		keys, err := s.memory.List(ctx, string(r.Key), int(r.Limit))
		for _, k := range keys {
			res.Kvs = append(res.Kvs, &mvccpb.KeyValue{Key: []byte(k)})
		}
		return res, err
	}
	value, rev, err := s.memory.Get(ctx, string(r.Key))
	if rev != 0 {
		res.Kvs = []*mvccpb.KeyValue{{Key: r.Key, Value: value, ModRevision: rev}}
	}
	return res, err
}

func (s *limitedKV) Txn(ctx context.Context, r *pb.TxnRequest) (*pb.TxnResponse, error) {
	if len(r.Compare) != 1 || r.Compare[0].Target != pb.Compare_MOD || r.Compare[0].Result != pb.Compare_EQUAL ||
		len(r.Success) != 1 || r.Success[0].GetRequestPut() == nil {
		return nil, errors.New("unknown transaction")
	}
	rev := r.Compare[0].GetModRevision()
	isCreate := rev == 0 && len(r.Failure) == 0
	isUpdate := len(r.Failure) == 1 && r.Failure[0].GetRequestRange() != nil
	if !isCreate && !isUpdate {
		return nil, errors.New("unknown transaction")
	}
	put := r.Success[0].GetRequestPut()
	ok, err := s.memory.Update(ctx, string(put.Key), put.Value, rev)
	return &pb.TxnResponse{Header: &pb.ResponseHeader{}, Succeeded: ok}, err
}

func TestEtcdStore(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "kv.sock")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, &limitedKV{memory: newMemory()})
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	store, err := etcdstore.New("unix://" + socket)
	if err != nil {
		t.Fatal(err)
	}
	contract(t, store)
	// And as bootstrap uses it.
	m := newMachine(t, store, "s3cret")
	first := m.must()
	same(t, first, m.must())
	same(t, first, newMachine(t, store, "s3cret").must())
	newMachine(t, store, "wrong").refused("already belongs")
	if err := store.Close(); err != nil {
		t.Error(err)
	}
	if _, _, err := store.Get(t.Context(), "/x"); err == nil {
		t.Error("a closed store answers")
	}
}

func TestMemoryKeepsTheContract(t *testing.T) { contract(t, newMemory()) }

// contract is what Store promises.
func contract(t *testing.T, s Store) {
	t.Helper()
	ctx := t.Context()
	if v, rev, err := s.Get(ctx, "/test/a"); v != nil || rev != 0 || err != nil {
		t.Fatalf("a missing key: %q, %d, %v", v, rev, err)
	}
	for i, want := range []bool{true, false} {
		if ok, err := s.Create(ctx, "/test/a", []byte("one")); ok != want || err != nil {
			t.Fatalf("create %d: %v, %v", i, ok, err)
		}
	}
	v, rev, err := s.Get(ctx, "/test/a")
	if string(v) != "one" || rev == 0 || err != nil {
		t.Fatalf("get: %q, %d, %v", v, rev, err)
	}
	for i, want := range []bool{true, false} {
		if ok, err := s.Update(ctx, "/test/a", []byte("two"), rev); ok != want || err != nil {
			t.Fatalf("update %d: %v, %v", i, ok, err)
		}
	}
	if v, newer, err := s.Get(ctx, "/test/a"); string(v) != "two" || newer == rev || err != nil {
		t.Fatalf("get after update: %q, %d, %v", v, newer, err)
	}
	for _, k := range []string{"/test/b", "/testing", "/tes"} {
		if ok, err := s.Create(ctx, k, []byte("x")); !ok || err != nil {
			t.Fatalf("create %s: %v, %v", k, ok, err)
		}
	}
	for limit, want := range map[int]int{1: 1, 5: 2} {
		if keys, err := s.List(ctx, "/test/", limit); len(keys) != want || err != nil {
			t.Fatalf("list up to %d: %v, %v", limit, keys, err)
		}
	}
}
