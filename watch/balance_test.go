package watch

import (
	"context"
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
)

// picked is the picker of one member.
type picked struct{}

func (p picked) Pick(balancer.PickInfo) (balancer.PickResult, error) {
	return balancer.PickResult{}, nil
}

func TestMembersThatFailAreLeftOutForAWhile(t *testing.T) {
	p := &memberPicker{failures: newFailures()}
	for _, address := range []string{"a", "b", "c"} {
		p.members = append(p.members, connected{address: address, Picker: picked{}})
	}
	now := time.Now()
	chosen := func(at time.Time) map[string]int {
		times := make(map[string]int)
		for range 12 {
			times[p.choose(at).address]++
		}
		return times
	}
	if got := chosen(now); got["a"] != 4 || got["b"] != 4 || got["c"] != 4 {
		t.Fatalf("chosen: %v", got)
	}
	p.failures.add("b", now)
	if got := chosen(now); got["a"] == 0 || got["b"] != 0 || got["c"] == 0 {
		t.Fatalf("after b failed: %v", got)
	}
	p.failures.add("a", now)
	p.failures.add("c", now)
	if got := chosen(now); got["a"] != 4 || got["b"] != 4 || got["c"] != 4 {
		t.Fatalf("after all failed: %v", got)
	}
	p.failures.add("a", now.Add(avoidance))
	if got := chosen(now.Add(avoidance)); got["a"] != 0 || got["b"] == 0 || got["c"] == 0 {
		t.Fatalf("a while later: %v", got)
	}
}

func TestAMemberFailsByNotServing(t *testing.T) {
	ended := func(cause error) context.Context {
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		return ctx
	}
	canceled := status.Error(codes.Canceled, "context canceled")
	for name, c := range map[string]struct {
		ctx  context.Context //nolint:containedctx // of a call
		err  error
		want bool
	}{
		"an answer":                {t.Context(), nil, false},
		"no leader":                {t.Context(), rpctypes.ErrGRPCNoLeader, true},
		"a timeout of etcd":        {t.Context(), rpctypes.ErrGRPCTimeout, true},
		"no answer":                {t.Context(), status.Error(codes.DeadlineExceeded, "too late"), true},
		"what is compacted":        {t.Context(), rpctypes.ErrGRPCCompacted, false},
		"a permission":             {t.Context(), rpctypes.ErrGRPCPermissionDenied, false},
		"the end of a call":        {ended(nil), canceled, false},
		"the end for some reason":  {ended(errors.New("the range is gone")), canceled, false},
		"the end of a silent one":  {ended(errSilent), canceled, true},
		"the end of one that lags": {ended(errLags), canceled, true},
	} {
		p := &memberPicker{members: []connected{{address: "a", Picker: picked{}}}, failures: newFailures()}
		result, err := p.Pick(balancer.PickInfo{Ctx: c.ctx})
		if err != nil {
			t.Fatal(err)
		}
		result.Done(balancer.DoneInfo{Err: c.err})
		if got := p.failures.lately("a", time.Now()); got != c.want {
			t.Errorf("%s: failed is %v", name, got)
		}
	}
}
