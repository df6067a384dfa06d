package oracle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
)

// Identifier knows what the ids of a stream of deliveries are made of, beside
// the changes themselves.
type Identifier struct {
	Source, Rule, Send string
	// FirstEpoch is the epoch of the first era.
	FirstEpoch uint64
}

// made is what an id says of the change that it names.
type made struct {
	epoch      uint64
	occurrence int
}

// The ids of a run lie within these bounds.
const (
	epochsAtMost      = 8
	occurrencesAtMost = 4
)

// explain finds what the id of an attempt was made of. A synthetic DELETE has
// the occurrence -1, because it bears the revision of the last PUT.
func (i *Identifier) explain(a *Attempt) (made, bool) {
	first, last := 0, occurrencesAtMost
	if a.Synthetic && a.Type == Delete {
		first, last = -1, 0
	}
	for epoch := range uint64(epochsAtMost) {
		for occurrence := first; occurrence < last; occurrence++ {
			m := made{i.FirstEpoch + epoch, occurrence}
			if i.id(a.Key, a.Revision, m) == a.ID {
				return m, true
			}
		}
	}
	return made{}, false
}

// id makes an id from its description in docs/architecture.md.
func (i *Identifier) id(key string, revision int64, m made) string {
	var b []byte
	text := func(s string) { b = append(binary.BigEndian.AppendUint64(b, uint64(len(s))), s...) }
	number := func(n uint64) { b = binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(b, 8), n) }
	text(i.Source)
	number(m.epoch)
	text(key)
	number(uint64(m.occurrence))
	text(i.Rule)
	text(i.Send)
	sum := sha256.Sum256(b)
	return fmt.Sprintf("%d-%s", revision, hex.EncodeToString(sum[:16]))
}
