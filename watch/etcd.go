package watch

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyhook"
)

// history is what is asked of etcd.
type history interface {
	// head reads linearizably, with a permission that the range needs: of one key,
	// because etcd counts the keys of a range that is asked for.
	head(ctx context.Context, r keyhook.Range) (head, error)
	// at returns what key held at revision rev; nil if nothing. errCompacted if
	// that is gone.
	at(ctx context.Context, key []byte, rev int64) (*mvccpb.KeyValue, error)
	// page lists the keys of r at revision rev, in order. errCompacted if that
	// is gone, errTooLarge if more than maxBytes would have to be received.
	page(ctx context.Context, r keyhook.Range, rev int64, limit, maxBytes int, keysOnly bool) (page, error)
	// values returns what keys hold at revision rev, in order, without those that
	// are not there. Errors are those of page.
	values(ctx context.Context, keys [][]byte, rev int64, maxBytes int) ([]*mvccpb.KeyValue, error)
	// keys lists the first keys of r at revision rev, without values. errCompacted
	// if that is gone.
	keys(ctx context.Context, r keyhook.Range, rev int64, limit int) ([]*mvccpb.KeyValue, error)
	// watch opens a stream of its own. It ends with ctx. In fragments, a response
	// may have any size; as a whole, errTooLarge ends the stream at the first one
	// of more than maxWhole bytes.
	watch(ctx context.Context, r keyhook.Range, rev int64, fragments bool) (stream, error)
	// versions returns what the reachable members run, by endpoint.
	versions(ctx context.Context) map[string]string
}

type head struct {
	cluster  uint64
	revision int64
	term     uint64 // of the raft: grows with each election, and begins anew in a restored cluster
}

type page struct {
	kvs  []*mvccpb.KeyValue
	more bool
}

// stream is a watch as etcd sends it: first Created, then responses that may be
// fragments of one another, at last Canceled or an error.
type stream interface {
	recv() (*etcdserverpb.WatchResponse, error)
	requestProgress() error // may be called while another goroutine is in recv
}

var errTooLarge = errors.New("the response is too large")

// maxWhole is how large a response may be that is not fragmented. To cut one
// into fragments costs etcd time that grows with the square of the number of
// events in each (16,000 small events: 3.6 s, against 0.1 s as a whole), so it is
// asked to only where whole responses would take too much memory.
const maxWhole = 64 << 20

// etcd speaks to the server below the convenience of the client's watcher. That
// one resumes by itself, without the read that shows whether history was rolled
// back meanwhile, and buffers without bound. Each stream is its own gRPC stream,
// opened with a fresh token.
type etcd struct {
	client  *clientv3.Client
	kv      etcdserverpb.KVClient
	watcher etcdserverpb.WatchClient
	timeout time.Duration
}

func newEtcd(client *clientv3.Client, timeout time.Duration) *etcd {
	conn := client.ActiveConnection()
	return &etcd{
		client: client, timeout: timeout,
		kv: etcdserverpb.NewKVClient(conn), watcher: etcdserverpb.NewWatchClient(conn),
	}
}

func (e *etcd) read(ctx context.Context, req *etcdserverpb.RangeRequest, maxBytes int) (*etcdserverpb.RangeResponse, error) {
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), e.timeout)
	defer cancel()
	resp, err := e.kv.Range(ctx, req, grpc.MaxCallRecvMsgSize(maxBytes))
	if hasMessage(err, rpctypes.ErrGRPCCompacted) {
		return nil, errCompacted
	}
	return resp, err
}

func (e *etcd) head(ctx context.Context, r keyhook.Range) (head, error) {
	key, _ := bounds(r)
	resp, err := e.read(ctx, &etcdserverpb.RangeRequest{Key: key, KeysOnly: true}, math.MaxInt32)
	if err != nil {
		return head{}, err
	}
	h := resp.GetHeader()
	return head{cluster: h.GetClusterId(), revision: h.GetRevision(), term: h.GetRaftTerm()}, nil
}

func (e *etcd) at(ctx context.Context, key []byte, rev int64) (*mvccpb.KeyValue, error) {
	resp, err := e.read(ctx, &etcdserverpb.RangeRequest{Key: key, Revision: rev}, math.MaxInt32)
	if err != nil || len(resp.GetKvs()) == 0 {
		return nil, err
	}
	return resp.GetKvs()[0], nil
}

func (e *etcd) page(ctx context.Context, r keyhook.Range, rev int64, limit, maxBytes int, keysOnly bool) (page, error) {
	key, end := bounds(r)
	if limit == 1 {
		maxBytes = math.MaxInt32 // there is no smaller page
	}
	resp, err := e.read(ctx, &etcdserverpb.RangeRequest{Key: key, RangeEnd: end, Revision: rev, Limit: int64(limit), KeysOnly: keysOnly}, maxBytes)
	if tooLarge(err) {
		return page{}, errTooLarge
	}
	return page{kvs: resp.GetKvs(), more: resp.GetMore()}, err
}

func (e *etcd) values(ctx context.Context, keys [][]byte, rev int64, maxBytes int) ([]*mvccpb.KeyValue, error) {
	if len(keys) == 1 {
		kv, err := e.at(ctx, keys[0], rev)
		if err != nil || kv == nil {
			return nil, err
		}
		return []*mvccpb.KeyValue{kv}, nil
	}
	txn := new(etcdserverpb.TxnRequest)
	for _, key := range keys {
		txn.Success = append(txn.Success, &etcdserverpb.RequestOp{Request: &etcdserverpb.RequestOp_RequestRange{
			RequestRange: &etcdserverpb.RangeRequest{Key: key, Revision: rev},
		}})
	}
	ctx, cancel := context.WithTimeout(clientv3.WithRequireLeader(ctx), e.timeout)
	defer cancel()
	resp, err := e.kv.Txn(ctx, txn, grpc.MaxCallRecvMsgSize(maxBytes))
	switch {
	case tooLarge(err) || hasMessage(err, rpctypes.ErrGRPCTooManyOps):
		return nil, errTooLarge
	case hasMessage(err, rpctypes.ErrGRPCCompacted):
		return nil, errCompacted
	case err != nil:
		return nil, err
	}
	var kvs []*mvccpb.KeyValue
	for _, op := range resp.GetResponses() {
		kvs = append(kvs, op.GetResponseRange().GetKvs()...)
	}
	return kvs, nil
}

func (e *etcd) keys(ctx context.Context, r keyhook.Range, rev int64, limit int) ([]*mvccpb.KeyValue, error) {
	key, end := bounds(r)
	resp, err := e.read(ctx, &etcdserverpb.RangeRequest{Key: key, RangeEnd: end, Revision: rev, Limit: int64(limit), KeysOnly: true}, math.MaxInt32)
	return resp.GetKvs(), err
}

// hasMessage reports whether err says what known does: codes get lost on the way.
func hasMessage(err, known error) bool {
	return err != nil && strings.Contains(rpctypes.ErrorDesc(err), rpctypes.ErrorDesc(known))
}

// tooLarge reports whether this side refused to receive a message.
func tooLarge(err error) bool {
	return status.Code(err) == codes.ResourceExhausted && strings.Contains(rpctypes.ErrorDesc(err), "larger than max")
}

func (e *etcd) watch(ctx context.Context, r keyhook.Range, rev int64, fragments bool) (stream, error) {
	if rev < 1 {
		return nil, fmt.Errorf("watch from revision %d", rev) // etcd would take it for "now"
	}
	key, end := bounds(r)
	limit := maxWhole
	if fragments {
		limit = math.MaxInt32 // what etcd sends before Created is not fragmented
	}
	w, err := e.watcher.Watch(clientv3.WithRequireLeader(ctx), grpc.MaxCallRecvMsgSize(limit))
	if err != nil {
		return nil, err
	}
	// An error of Send is only io.EOF: the next Recv has the reason.
	err = w.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_CreateRequest{
		CreateRequest: &etcdserverpb.WatchCreateRequest{
			Key: key, RangeEnd: end, StartRevision: rev, ProgressNotify: true, Fragment: fragments,
		},
	}})
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return &grpcStream{w}, nil
}

type grpcStream struct {
	grpc etcdserverpb.Watch_WatchClient
}

func (s *grpcStream) recv() (*etcdserverpb.WatchResponse, error) {
	resp, err := s.grpc.Recv()
	if tooLarge(err) {
		return nil, errTooLarge
	}
	return resp, err
}

func (s *grpcStream) requestProgress() error {
	return s.grpc.Send(&etcdserverpb.WatchRequest{RequestUnion: &etcdserverpb.WatchRequest_ProgressRequest{
		ProgressRequest: &etcdserverpb.WatchProgressRequest{},
	}})
}

func (e *etcd) versions(ctx context.Context) map[string]string {
	found := make(map[string]string)
	for _, endpoint := range e.client.Endpoints() {
		ctx, cancel := context.WithTimeout(ctx, e.timeout)
		if st, err := e.client.Status(ctx, endpoint); err == nil {
			found[endpoint] = st.Version
		}
		cancel()
	}
	return found
}

// bounds returns r as etcd's requests have it: keys are never empty, and "\0" is
// the end of all keys.
func bounds(r keyhook.Range) (key, end []byte) {
	key, end = r.Start, r.End
	if len(key) == 0 {
		key = []byte{0}
	}
	switch {
	case len(end) == 0:
		end = []byte{0}
	case len(r.Start) > 0 && bytes.Equal(end, append(bytes.Clone(key), 0)):
		end = nil // a single key
	}
	return key, end
}
