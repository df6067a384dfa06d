package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

const pathAudit = "/api/v1/audit"

// Auditor compares what is known of the watched ranges with what etcd holds; with
// repair set, what differs is delivered, and halted ranges go on. It tells progress
// of the keys that were compared so far.
type Auditor func(ctx context.Context, repair bool, progress func(keys int)) ([]Audit, error)

// Audit is what the audit of one range has found.
type Audit struct {
	Range string `json:"range"`
	Keys  int    `json:"keys"` // compared
	// Differing counts the keys that differ; Differences are the first of them.
	Differing   int               `json:"differing"`
	Differences []AuditDifference `json:"differences"`
	// Partial: etcd has compacted the revision that is known, so that keys which
	// changed since, or are gone, could not be judged.
	Partial bool `json:"partial,omitempty"`
	// Repaired: what differs is delivered as synthetic changes.
	Repaired bool   `json:"repaired,omitempty"`
	Error    string `json:"error,omitempty"` // why the range was not compared to its end
}

// AuditDifference is a key of which something else is known than etcd holds. The
// revisions are those that last wrote it; 0: it is not there.
type AuditDifference struct {
	Key       string `json:"key,omitempty"`
	KeyBase64 []byte `json:"key_base64,omitempty"` // of a key that is not UTF-8
	Known     int64  `json:"known"`
	Etcd      int64  `json:"etcd"`
	Revision  int64  `json:"revision"` // at which the two were compared
}

type auditRequest struct {
	Repair bool `json:"repair"`
}

// auditLine is a part of the answer: progress, at last the reports or an error.
type auditLine struct {
	Keys    int      `json:"keys,omitempty"`
	Reports []Audit  `json:"reports,omitempty"`
	Problem *problem `json:"problem,omitempty"`
}

// auditRoute adds the audit. One runs at a time.
func (s *Server) auditRoute(mux *http.ServeMux) {
	s.handle(mux, "POST "+pathAudit, s.newGate(1, "an audit is under way", "try again when it has ended"), s.audit)
}

func (s *Server) audit(w http.ResponseWriter, r *http.Request) error {
	var req auditRequest
	if err := read(w, r, &req); err != nil {
		return err
	}
	w.Header().Set("Content-Type", typeNDJSON)
	conn := http.NewResponseController(w)
	lines := json.NewEncoder(&patient{w, conn})
	lines.SetEscapeHTML(false)
	// A client that has left ends the request's context, and with it the audit.
	tell := func(line auditLine) {
		if lines.Encode(line) == nil {
			_ = conn.Flush()
		}
	}
	tell(auditLine{})
	var told time.Time
	reports, err := s.cfg.Audit(r.Context(), req.Repair, func(keys int) {
		if now := time.Now(); now.Sub(told) >= progressInterval {
			told = now
			tell(auditLine{Keys: keys})
		}
	})
	if err != nil {
		tell(auditLine{Problem: problemOf(err)})
		return nil
	}
	tell(auditLine{Reports: reports})
	return nil
}

// progressInterval is between two lines about the progress of an audit.
const progressInterval = 200 * time.Millisecond

// Audit has the process make an audit; see [Auditor].
func (c *Client) Audit(ctx context.Context, repair bool, progress func(keys int)) (reports []Audit, err error) {
	resp, err := c.do(ctx, http.MethodPost, pathAudit, auditRequest{Repair: repair})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	for dec := json.NewDecoder(resp.Body); ; {
		var line auditLine
		switch err := dec.Decode(&line); {
		case errors.Is(err, io.EOF):
			return nil, errors.New("the process has ended, and with it the audit")
		case err != nil:
			return nil, fmt.Errorf("the answer ends too early: %w", err)
		case line.Problem != nil:
			return nil, line.Problem
		case line.Reports != nil:
			return line.Reports, nil
		}
		progress(line.Keys)
	}
}
