package oracle

import "time"

// Attempt is one request that reached a receiver.
type Attempt struct {
	// Arrival numbers the attempts at a receiver in the order in which they came.
	Arrival int
	ID      string

	Type     Type
	Key      string
	Revision int64
	Value    Digest // of a Put
	Created  int64
	Version  int64
	Lease    int64
	Prev     *Previous
	// Synthetic says that it was told from a listing, not from etcd's history.
	Synthetic bool

	// OK says that the receiver took the message and answered so, at Answered.
	OK       bool
	Answered time.Time
	// Unread says that the connection ended with no further request on it:
	// whether the sender has read an answer is unknown.
	Unread bool
}

// Previous is what the message says that the key held before.
type Previous struct {
	Value    Digest
	Revision int64
	Created  int64
	Version  int64
	Lease    int64
}

// tells reports whether a says exactly what c is.
func (a *Attempt) tells(c *Change) bool {
	if a.Type != c.Type || a.Key != c.Key || a.Revision != c.Revision {
		return false
	}
	if c.Type == Put && (a.Value != c.Value || a.Created != c.Created || a.Version != c.Version || a.Lease != c.Lease) {
		return false
	}
	if c.Prev == nil || a.Prev == nil {
		return c.Prev == nil && a.Prev == nil
	}
	return *a.Prev == Previous{c.Prev.Value, c.Prev.Revision, c.Prev.Created, c.Prev.Version, c.Prev.Lease}
}
