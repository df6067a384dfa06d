package admin

import (
	"context"
	"errors"
	"net/http"

	"keyhook/internal/compare"
)

const pathCompare = "/api/v1/compare"

// maxInventory bounds what a configuration comes to: some ten thousands of rules.
const maxInventory = 64 << 20

// Comparer returns what would be different if what runs became what it is told
// of. It changes nothing.
type Comparer func(with *compare.Inventory) *compare.Changes

// compareRoute adds the comparison. One runs at a time.
func (s *Server) compareRoute(mux *http.ServeMux) {
	g := newGuard(s.cfg.Token != "", s.listener.Addr())
	busy := make(chan struct{}, 1)
	mux.Handle("POST "+pathCompare, s.authorized(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := s.compare(w, r, g, busy); err != nil {
			s.refuse(w, r, err)
		}
	})))
}

func (s *Server) compare(w http.ResponseWriter, r *http.Request, g *guard, busy chan struct{}) error {
	if err := g.check(r); err != nil {
		return err
	}
	select {
	case busy <- struct{}{}:
		defer func() { <-busy }()
	default:
		return &problem{http.StatusServiceUnavailable, "a comparison is under way", "try again when it has ended"}
	}
	var with compare.Inventory
	if err := readUpTo(w, r, maxInventory, &with); err != nil {
		return err
	}
	if len(with.Key) < compare.KeySize {
		return &problem{http.StatusBadRequest, "the request has no key that its hashes are made with", ""}
	}
	return s.answer(w, r, s.cfg.Compare(&with), nil)
}

// Compare asks the process what would be different if it became what it is told
// of; see [Comparer].
func (c *Client) Compare(ctx context.Context, with *compare.Inventory) (*compare.Changes, error) {
	changes, err := ask[*compare.Changes](ctx, c, http.MethodPost, pathCompare, with)
	if refused, ok := errors.AsType[*RequestError](err); ok && refused.Status == http.StatusNotFound {
		refused.text, refused.hint = "the running process cannot compare configurations", "it is an older version; name a configuration file instead"
	}
	return changes, err
}
