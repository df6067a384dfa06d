package keyhook

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
)

// DeliveryID returns the id of the delivery that (change, rule, send) owes:
// "<revision>-<32 hex digits>". It names the triple, not the bytes that are
// sent: the same change evaluated again after a crash gives the same id, on
// whichever machine. It contains no ".", as Standard Webhooks requires.
//
// The digits are the first 16 bytes of SHA-256 over source, epoch, key,
// occurrence, rule and send, each preceded by its length as an unsigned 64-bit
// big-endian integer; epoch and occurrence are themselves such integers, of
// length 8, in two's complement. docs/architecture.md has test vectors.
func DeliveryID(source string, epoch uint64, e *Event, rule, send string) string {
	var room [512]byte // on the stack, and enough for most
	buf := room[:0]
	buf = appendSized(buf, source)
	buf = appendNumber(buf, epoch)
	buf = appendSized(buf, e.Key)
	buf = appendNumber(buf, uint64(e.Occurrence)) //nolint:gosec // two's complement is meant
	buf = appendSized(buf, rule)
	buf = appendSized(buf, send)
	sum := sha256.Sum256(buf)

	var text [20 + 1 + 32]byte
	id := text[:0]
	id = strconv.AppendInt(id, e.Revision, 10)
	id = append(id, '-')
	return string(hex.AppendEncode(id, sum[:16]))
}

func appendSized[T string | []byte](buf []byte, s T) []byte {
	buf = binary.BigEndian.AppendUint64(buf, uint64(len(s)))
	return append(buf, s...)
}

func appendNumber(buf []byte, n uint64) []byte {
	buf = binary.BigEndian.AppendUint64(buf, 8)
	return binary.BigEndian.AppendUint64(buf, n)
}
