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
	s.handle(mux, "POST "+pathCompare, s.newGate(1, "a comparison is under way", "try again when it has ended"), s.compare)
}

func (s *Server) compare(w http.ResponseWriter, r *http.Request) error {
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
