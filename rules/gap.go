package rules

import (
	"bytes"
	"strconv"
	"time"

	"keyhook"
)

// typeGap is what event.type says of a gap, where a subject is made for it.
const typeGap = "GAP"

// gapOccurrence tells the id of a gap from those of changes.
const gapOccurrence = -2

// EvaluateGap adds to res what a gap in the history of a range owes: a CloudEvent
// of type "keyhook.gap" for each send of each rule that asks for gaps and has
// keys in that range. Of a send only the subject is rendered; it sees an event
// without a value whose key is the beginning of the range.
func (s *Set) EvaluateGap(source Source, gap *keyhook.Gap, res *Result) {
	ev := &keyhook.Event{Key: bytes.Clone(gap.Range.Start), Revision: gap.To, Occurrence: gapOccurrence, Time: gap.At, Synthetic: true}
	source.Epoch = gap.Epoch
	for _, r := range s.rules {
		if !r.gaps || !r.touches(gap.Range) {
			continue
		}
		res.Matches = append(res.Matches, Match{Rule: r.name})
		st := s.states.get(source, ev, s.budget)
		st.enter(r, nil)
		for _, one := range r.sends {
			res.Deliveries = append(res.Deliveries, r.tell(st, one, gap))
		}
		s.states.put(st)
	}
}

// touches reports whether the rule has keys in a range.
func (r *rule) touches(in keyhook.Range) bool {
	for _, p := range r.patterns {
		if coverage(p.keyRange(), []keyhook.Range{in}) != disjoint {
			return true
		}
	}
	return false
}

// tell returns the delivery that tells of a gap. It goes out at once, whatever
// the rule says of time.
func (r *rule) tell(st *state, s *send, gap *keyhook.Gap) *keyhook.Delivery {
	d := r.delivery(st, s, nil)
	d.Timing, d.Group = keyhook.Timing{}, nil
	d.Message.ContentType = contentCloudEvent
	d.Message.Body = appendGapEvent(nil, st.source.Name, d.ID, gap)
	if failed := s.renderSubject(st, &d.Message); failed != nil {
		d.Message = keyhook.Message{}
		d.Rejected = failed.rejection()
	}
	return d
}

func appendGapEvent(dst []byte, source, id string, gap *keyhook.Gap) []byte {
	dst = appendEnvelope(dst, source, id)
	dst = append(dst, `,"type":"keyhook.gap","subject":`...)
	dst = appendSubject(dst, []byte(gap.Range.String()))
	dst = appendMoment(dst, gap.At, gap.To)
	dst = append(dst, `{"range":{`...)
	dst = appendTextOrBase64(dst, "start", gap.Range.Start)
	dst = append(dst, ',')
	dst = appendTextOrBase64(dst, "end", gap.Range.End)
	dst = append(dst, `},"reason":`...)
	dst = appendQuoted(dst, string(gap.Reason))
	for _, member := range []struct {
		name  string
		value int64
	}{
		{"from", gap.From}, {"to", gap.To},
		{"created", int64(gap.Created)}, {"changed", int64(gap.Changed)}, {"deleted", int64(gap.Deleted)},
	} {
		dst = append(dst, `,"`+member.name+`":`...)
		dst = strconv.AppendInt(dst, member.value, 10)
	}
	dst = append(dst, `,"at":"`...)
	dst = gap.At.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, `"}}`...)
}
