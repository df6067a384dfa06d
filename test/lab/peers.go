package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// The members of a cluster reach each other through a proxy for each. A member
// has connections of both kinds to each other one: it asks the other for what that
// has to say, and says by itself what is urgent or large. So to be alone it must
// neither be reached nor reach anybody; the requests say who they are from.

// advertised is where the others reach the member.
func (m *Member) advertised() string { return "http://" + m.network.Address }

// peerSender returns the id of the member that a connection is from.
func peerSender(first []byte) string {
	const header = "\r\nX-Server-From: "
	_, rest, ok := bytes.Cut(first, []byte(header))
	id, _, whole := bytes.Cut(rest, []byte("\r\n"))
	if !ok || !whole {
		return ""
	}
	return string(id)
}

// Isolate swallows all that a running member and the others say to each other,
// until [Cluster.Rejoin]. Its clients still reach it. One member can be alone at a
// time.
func (c *Cluster) Isolate(ctx context.Context, alone *Member) error {
	id, _, err := alone.id(ctx)
	if err != nil {
		return err
	}
	for _, m := range c.Members {
		if m == alone {
			m.network.Blackhole()
		} else {
			m.network.swallow(strconv.FormatUint(id, 16))
		}
	}
	return nil
}

// Rejoin lets all members speak to each other.
func (c *Cluster) Rejoin() {
	for _, m := range c.Members {
		m.network.Pass()
	}
}

// Watchers returns how many watches the member serves, by its own account.
func (m *Member) Watchers(ctx context.Context) (n int, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url+"/metrics", nil)
	if err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err
	}
	said, err := io.ReadAll(resp.Body)
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return 0, err
	}
	const metric = "\netcd_debugging_mvcc_watcher_total "
	_, rest, ok := bytes.Cut(said, []byte(metric))
	value, _, _ := bytes.Cut(rest, []byte("\n"))
	if !ok {
		return 0, fmt.Errorf("etcd %s does not say how many watches it serves", m.Name)
	}
	return strconv.Atoi(string(value))
}

// Revision returns the member's own revision, however old.
func (m *Member) Revision(ctx context.Context) (int64, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	st, err := m.Client.Status(ctx, m.url)
	if err != nil {
		return 0, err
	}
	return st.Header.GetRevision(), nil
}
