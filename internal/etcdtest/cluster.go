package etcdtest

import (
	"net/url"
	"strconv"
	"strings"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"keyhook/internal/freeport"
)

// Cluster is an etcd of several members, all embedded, whatever the environment
// names. Its methods are for the goroutine of the test.
type Cluster struct {
	Members []*Server
	t       testing.TB
}

// StartCluster runs n members until the test ends.
func StartCluster(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t}
	peers := make([]string, 0, n)
	for i := range n {
		// Members do not find each other by the paths of sockets.
		s := prepare(t, true, WithConfig(func(cfg *embed.Config) {
			cfg.Name = "m" + strconv.Itoa(i)
			cfg.ListenPeerUrls = []url.URL{{Scheme: "http", Host: freeport.Address(t)}}
			cfg.AdvertisePeerUrls = cfg.ListenPeerUrls
		}))
		peers = append(peers, s.cfg.Name+"="+s.cfg.AdvertisePeerUrls[0].String())
		c.Members = append(c.Members, s)
	}
	for _, s := range c.Members {
		s.cfg.InitialCluster = strings.Join(peers, ",")
		s.begin()
	}
	for _, s := range c.Members {
		s.await()
	}
	return c
}

// Endpoints returns where clients reach the members.
func (c *Cluster) Endpoints() []string {
	all := make([]string, 0, len(c.Members))
	for _, s := range c.Members {
		all = append(all, s.Endpoints()...)
	}
	return all
}

// Client returns a client of all members. It is closed when the test ends.
func (c *Cluster) Client() *clientv3.Client {
	c.t.Helper()
	return c.Members[0].client("", "", c.Endpoints()...)
}
