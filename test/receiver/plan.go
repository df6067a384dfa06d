package receiver

import (
	"encoding/binary"
	"math/rand/v2"

	"keyhook/test/oracle"
)

// Reply is what the receiver does about a request.
type Reply int

// Replies.
const (
	Accept      Reply = iota // 204
	Late                     // 204, after a few milliseconds
	Unavailable              // 503
	Refuse                   // 422
	Hang                     // no answer, until the sender gives up
	Reset                    // the connection is reset without an answer
)

// Plan decides about an attempt; nth counts the attempts with its id, from 1. It
// may be called from several goroutines at once.
type Plan func(a *oracle.Attempt, nth int) Reply

// Accepting takes everything.
func Accepting(*oracle.Attempt, int) Reply { return Accept }

// Always gives every attempt the same reply.
func Always(r Reply) Plan {
	return func(*oracle.Attempt, int) Reply { return r }
}

// Failing fails the given share of attempts, one third each by 503, by hanging
// and by a reset. What happens to the nth attempt of an id depends on the seed
// alone.
func Failing(seed uint64, share float64) Plan {
	return func(a *oracle.Attempt, nth int) Reply {
		draw := Draw(seed, a, nth)
		if draw >= share {
			return Accept
		}
		return []Reply{Unavailable, Hang, Reset}[int(draw/share*3)]
	}
}

// Draw returns a number from 0 to 1 that depends on the seed, the id and nth
// alone.
func Draw(seed uint64, a *oracle.Attempt, nth int) float64 {
	h := oracle.DigestOf(binary.BigEndian.AppendUint64([]byte(a.ID), uint64(nth)))
	return rand.New(rand.NewPCG(seed, uint64(h))).Float64()
}
