package watch

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/balancer"
	"google.golang.org/grpc/balancer/endpointsharding"
	"google.golang.org/grpc/balancer/pickfirst"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
)

// Which member is asked. etcd's client asks one after the other, whatever they
// answered: a member that is connected but cut off from the rest of the cluster
// has its turn like any other. A watch that begins with a few reads comes to the
// same member each time, if there are just so many of them: with three members and
// two reads, one that has no leader would refuse every attempt. So a member that
// failed to answer is left out for a while, as long as there is another one.

// balancing names how members are chosen.
const balancing = "keyhook_members"

// serviceConfig asks for it.
const serviceConfig = `{"loadBalancingConfig": [{"` + balancing + `": {}}]}`

// avoidance is how long a member is left out that has failed.
const avoidance = 10 * time.Second

func init() { balancer.Register(balancers{}) }

// balancers is a [balancer.Builder].
type balancers struct{}

func (balancers) Name() string { return balancing }

func (balancers) Build(cc balancer.ClientConn, opts balancer.BuildOptions) balancer.Balancer {
	b := &memberBalancer{ClientConn: cc, failures: newFailures()}
	b.Balancer = endpointsharding.NewBalancer(b, opts, balancer.Get(pickfirst.Name).Build, endpointsharding.Options{})
	return b
}

// memberBalancer keeps a connection to each member, and chooses among those that
// are connected. It stands between gRPC and what keeps the connections, as the
// balancer of the one and the ClientConn of the other.
type memberBalancer struct {
	balancer.Balancer
	balancer.ClientConn
	failures *failures
}

// UpdateState implements [balancer.ClientConn].
func (b *memberBalancer) UpdateState(state balancer.State) {
	p := &memberPicker{failures: b.failures}
	p.next.Store(rand.Uint32()) //nolint:gosec // only to begin anywhere
	for _, child := range endpointsharding.ChildStatesFromPicker(state.Picker) {
		if child.State.ConnectivityState == connectivity.Ready {
			p.members = append(p.members, connected{address: child.Endpoint.Addresses[0].Addr, Picker: child.State.Picker})
		}
	}
	if len(p.members) > 0 { // else it says why there is none
		state.Picker = p
	}
	b.ClientConn.UpdateState(state)
}

// connected is a member with a connection.
type connected struct {
	balancer.Picker
	address string
}

// memberPicker is a [balancer.Picker].
type memberPicker struct {
	members  []connected
	failures *failures
	next     atomic.Uint32
}

func (p *memberPicker) Pick(info balancer.PickInfo) (balancer.PickResult, error) {
	m := p.choose(time.Now())
	result, err := m.Pick(info)
	if err != nil {
		return result, err
	}
	done := result.Done
	result.Done = func(d balancer.DoneInfo) {
		if done != nil {
			done(d)
		}
		if unanswered(info.Ctx, d.Err) {
			p.failures.add(m.address, time.Now())
		}
	}
	return result, nil
}

// choose returns the next member that did not fail lately, or the next one if all
// did.
func (p *memberPicker) choose(now time.Time) connected {
	n := uint32(len(p.members)) //nolint:gosec // a few
	first := p.next.Add(1)
	for i := range n {
		if m := p.members[(first+i)%n]; !p.failures.lately(m.address, now) {
			return m
		}
	}
	return p.members[first%n]
}

// unanswered reports whether an error of a call says that its member is not able
// to serve, though it is connected: it has no leader, takes too long, or lags behind.
func unanswered(ctx context.Context, err error) bool {
	switch status.Code(err) {
	case codes.Unavailable, codes.DeadlineExceeded:
		return true
	default:
		cause := context.Cause(ctx)
		return err != nil && (errors.Is(cause, errSilent) || errors.Is(cause, errLags))
	}
}

// failures are when members have failed last, by address.
type failures struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func newFailures() *failures { return &failures{last: make(map[string]time.Time)} }

func (f *failures) add(address string, now time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.last[address] = now
}

func (f *failures) lately(address string, now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, ok := f.last[address]
	return ok && now.Sub(at) < avoidance
}
