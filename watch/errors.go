package watch

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"keyhook"
)

// Kind says what an [Error] asks of its reader. Its values are label values of
// metrics.
type Kind string

// Kinds of errors. Compacted, RolledBack, WrongCluster and BadStart halt a
// range; the others are tried again with backoff.
const (
	Unreachable      Kind = "unreachable"       // no member answers, or none has a leader
	AuthFailed       Kind = "auth_failed"       // wrong or missing user and password
	PermissionDenied Kind = "permission_denied" // the user may not read the range
	Compacted        Kind = "compacted"         // changes after the position are gone
	RolledBack       Kind = "rolled_back"       // etcd's history does not contain the position
	WrongCluster     Kind = "wrong_cluster"     // the checkpoint belongs to another etcd
	BadStart         Kind = "bad_start"         // the revision to begin at is gone
	StartAhead       Kind = "start_ahead"       // the revision to begin at is not reached yet
	Unexpected       Kind = "unexpected"        // anything else
)

// Error is why a range cannot be read at the moment, for people.
type Error struct {
	Kind  Kind
	Range keyhook.Range
	Err   error  // what happened; free of values and secrets
	Hint  string // what to do about it; may be empty

	cluster uint64 // of a WrongCluster: the one that answers
}

func (e *Error) Error() string { return fmt.Sprintf("%s: %v", e.Range, e.Err) }

// Unwrap returns the error without its range.
func (e *Error) Unwrap() error { return e.Err }

// Halts reports whether trying again cannot help unless etcd is changed: the
// intake of the range stands still.
func (e *Error) Halts() bool {
	switch e.Kind {
	case Compacted, RolledBack, WrongCluster, BadStart:
		return true
	default:
		return false
	}
}

// errCompacted means that a read at a revision came too late.
var errCompacted = errors.New("the revision has been compacted")

// acceptIt is what resumes a halted range.
const acceptIt = "`keyhook audit --repair` goes on: it compares what is known with etcd, and delivers what differs as synthetic changes"

func compactedError(r keyhook.Range, pos keyhook.Position, compacted int64) *Error {
	return &Error{
		Kind: Compacted, Range: r,
		Err: fmt.Errorf("etcd has compacted its history up to revision %d, the changes from revision %d to %d cannot be read any more",
			compacted, pos.Next, compacted-1),
		Hint: "etcd.on_gap: repair repairs such gaps by itself; " + acceptIt,
	}
}

func rolledBackError(r keyhook.Range, err error) *Error {
	return &Error{
		Kind: RolledBack, Range: r, Err: err,
		Hint: "etcd was restored from a backup or set up anew, or etcd.endpoints name a copy of it: if so, correct them and start keyhook again. Else " + acceptIt,
	}
}

func wrongClusterError(r keyhook.Range, want, got uint64) *Error {
	return &Error{
		Kind: WrongCluster, Range: r, cluster: got,
		Err:  fmt.Errorf("this is the etcd cluster %x, but the checkpoint belongs to cluster %x", got, want),
		Hint: "check etcd.endpoints. If this cluster has taken the place of the other one, " + acceptIt,
	}
}

func mirrorFailed(r keyhook.Range, err error) *Error {
	return &Error{Kind: Unexpected, Range: r, Err: fmt.Errorf("read the mirror: %w", err), Hint: "check the checkpoint's directory"}
}

// classify makes an error of the client one for people. It returns an *Error as
// it is. Messages are compared where codes are lost on the way: a watch is
// refused by a text, and errors that come from fetching a token have no code.
func classify(r keyhook.Range, user string, err error) *Error {
	if e, ok := errors.AsType[*Error](err); ok {
		return e
	}
	message := rpctypes.ErrorDesc(err)
	has := func(known error) bool { return strings.Contains(message, rpctypes.ErrorDesc(known)) }
	switch {
	case has(rpctypes.ErrGRPCAuthFailed):
		return &Error{
			Kind: AuthFailed, Range: r, Err: fmt.Errorf("etcd refuses the user %q or its password", user),
			Hint: "check etcd.username and etcd.password",
		}
	case has(rpctypes.ErrGRPCUserEmpty):
		return &Error{
			Kind: AuthFailed, Range: r, Err: errors.New("etcd asks for a user and a password"),
			Hint: "set etcd.username and etcd.password, or a client certificate in etcd.tls",
		}
	case has(rpctypes.ErrGRPCPermissionDenied):
		return deniedError(r, user)
	case has(rpctypes.ErrGRPCCompacted):
		return &Error{Kind: Unexpected, Range: r, Err: errCompacted}
	case has(rpctypes.ErrGRPCNoLeader):
		return &Error{
			Kind: Unreachable, Range: r, Err: errors.New("etcd has no leader"),
			Hint: "a majority of its members must reach each other",
		}
	case errors.Is(err, io.EOF):
		return &Error{Kind: Unreachable, Range: r, Err: errors.New("etcd closed the watch")}
	case has(rpctypes.ErrGRPCInvalidAuthToken) || has(rpctypes.ErrGRPCAuthOldRevision):
		return &Error{Kind: Unreachable, Range: r, Err: errors.New("etcd asks to authenticate again")}
	case errors.Is(err, errSilent):
		return &Error{
			Kind: Unreachable, Range: r, Err: err,
			Hint: "an etcd grpc-proxy in between, or a member that has fallen behind, may be the reason",
		}
	case errors.Is(err, errLags):
		return &Error{
			Kind: Unreachable, Range: r, Err: err,
			Hint: "another member is tried; look after the one that lags: its disk, and its network to the others",
		}
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		return &Error{
			Kind: Unreachable, Range: r, Err: errors.New("etcd did not answer in time"),
			Hint: "check etcd.endpoints, etcd.tls and the health of etcd",
		}
	case status.Code(err) == codes.Unavailable && (strings.Contains(message, "handshake failed") || strings.Contains(message, "tls:")):
		return &Error{
			Kind: Unreachable, Range: r, Err: fmt.Errorf("no TLS connection to etcd: %s", message),
			Hint: "check etcd.tls and whether the endpoints begin with https://",
		}
	case status.Code(err) == codes.Unavailable:
		return &Error{
			Kind: Unreachable, Range: r, Err: fmt.Errorf("etcd cannot be reached: %s", message),
			Hint: "check etcd.endpoints, etcd.tls and the health of etcd",
		}
	default:
		return &Error{Kind: Unexpected, Range: r, Err: errors.New(message)}
	}
}

func deniedError(r keyhook.Range, user string) *Error {
	who := "keyhook"
	if user != "" {
		who = fmt.Sprintf("the user %q", user)
	}
	end, grant := fmt.Sprintf("%q", r.End), fmt.Sprintf("%q %q", r.Start, r.End)
	switch {
	case len(r.End) == 0:
		end, grant = "∞", fmt.Sprintf("--from-key %q", r.Start)
	case r.Equal(keyhook.Prefix(r.Start)):
		grant = fmt.Sprintf("--prefix %q", r.Start)
	case r.Equal(keyhook.Single(r.Start)):
		grant = fmt.Sprintf("%q", r.Start)
	}
	return &Error{
		Kind: PermissionDenied, Range: r,
		Err:  fmt.Errorf("permission denied: %s needs READ on [%q, %s)", who, r.Start, end),
		Hint: "grant it to a role of the user: etcdctl role grant-permission ROLE read " + grant,
	}
}
