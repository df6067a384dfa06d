package watch

import (
	"context"
	"math"
	"testing"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// asked is a server of watches that keeps how it was asked.
type asked struct {
	etcdserverpb.Watch_WatchClient
	streams []metadata.MD
	limits  []int // of what a response may have, in bytes
	watches []*etcdserverpb.WatchCreateRequest
}

func (a *asked) Watch(ctx context.Context, opts ...grpc.CallOption) (etcdserverpb.Watch_WatchClient, error) {
	for _, opt := range opts {
		if limit, ok := opt.(grpc.MaxRecvMsgSizeCallOption); ok {
			a.limits = append(a.limits, limit.MaxRecvMsgSize)
		}
	}
	md, _ := metadata.FromOutgoingContext(ctx)
	a.streams = append(a.streams, md)
	return a, nil
}

func (a *asked) Send(req *etcdserverpb.WatchRequest) error {
	a.watches = append(a.watches, req.GetCreateRequest())
	return nil
}

// What etcd is not asked for in a watch: previous values, which cost it a read
// for each change; to begin now, which is what revision 0 means; and to share a
// stream with another watch.
func TestAWatchIsAskedForAsItMustBe(t *testing.T) {
	server := new(asked)
	e := &etcd{watcher: server}
	for _, rev := range []int64{-1, 0} {
		if _, err := e.watch(t.Context(), prefix("/a/"), rev, false); err == nil || len(server.streams) > 0 {
			t.Fatalf("a watch from revision %d: %v", rev, err)
		}
	}
	for i, fragments := range []bool{false, true} {
		if _, err := e.watch(t.Context(), prefix("/a/"), 7, fragments); err != nil {
			t.Fatal(err)
		}
		if len(server.streams) != i+1 || len(server.watches) != i+1 {
			t.Fatalf("%d watches in %d streams", len(server.watches), len(server.streams))
		}
		if got := server.streams[i].Get(rpctypes.MetadataRequireLeaderKey); len(got) != 1 || got[0] != rpctypes.MetadataHasLeader {
			t.Errorf("the stream does not require a leader: %v", server.streams[i])
		}
		limit := maxWhole
		if fragments {
			limit = math.MaxInt32 // responses that are queued before the watch is told to be created are whole
		}
		if len(server.limits) != i+1 || server.limits[i] != limit {
			t.Errorf("responses may have %v bytes, not %d", server.limits, limit)
		}
		req := server.watches[i]
		if req.GetStartRevision() != 7 || !req.GetProgressNotify() || req.GetFragment() != fragments || req.GetPrevKv() || len(req.GetFilters()) > 0 {
			t.Errorf("asked for %v", req)
		}
		if string(req.GetKey()) != "/a/" || string(req.GetRangeEnd()) != "/a0" {
			t.Errorf("asked for [%q, %q)", req.GetKey(), req.GetRangeEnd())
		}
	}
}
