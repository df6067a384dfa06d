package rules

import (
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"

	"keyhook"
)

// appendCloudEvent appends the message of a send without a body: a CloudEvent
// 1.0 in structured mode.
func appendCloudEvent(dst []byte, source, id string, ev *keyhook.Event) []byte {
	dst = appendEnvelope(dst, source, id)
	if ev.Type == keyhook.Delete {
		dst = append(dst, `,"type":"keyhook.etcd.delete","subject":`...)
	} else {
		dst = append(dst, `,"type":"keyhook.etcd.put","subject":`...)
	}
	dst = appendSubject(dst, ev.Key)
	dst = appendMoment(dst, ev.Time, ev.Revision)
	dst = appendEventData(dst, ev)
	return append(dst, '}')
}

// appendGroupEvent appends the message of a send without a body about the
// changes of a revision, which have per in common unless that is empty.
func appendGroupEvent(dst []byte, source, id, per string, events []*keyhook.Event) []byte {
	dst = appendEnvelope(dst, source, id)
	dst = append(dst, `,"type":"keyhook.etcd.revision"`...)
	if per != "" {
		dst = append(dst, `,"subject":`...)
		dst = appendSubject(dst, []byte(per))
	}
	dst = appendMoment(dst, events[0].Time, events[0].Revision)
	dst = append(dst, `{"revision":`...)
	dst = strconv.AppendInt(dst, events[0].Revision, 10)
	dst = append(dst, `,"events":[`...)
	for i, ev := range events {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendEventData(dst, ev)
	}
	return append(dst, `]}}`...)
}

// appendEnvelope begins a CloudEvent.
func appendEnvelope(dst []byte, source, id string) []byte {
	dst = append(dst, `{"specversion":"1.0","id":`...)
	dst = appendQuoted(dst, id)
	dst = append(dst, `,"source":`...)
	return appendQuoted(dst, source)
}

// appendMoment appends what stands between the subject and the data.
func appendMoment(dst []byte, at time.Time, revision int64) []byte {
	dst = append(dst, `,"time":"`...)
	dst = at.UTC().AppendFormat(dst, time.RFC3339Nano)
	dst = append(dst, `","sequence":"`...)
	dst = strconv.AppendInt(dst, revision, 10)
	return append(dst, `","datacontenttype":"application/json","data":`...)
}

// appendEventData appends the change itself.
func appendEventData(dst []byte, ev *keyhook.Event) []byte {
	dst = append(dst, `{"type":"`...)
	dst = append(dst, ev.Type.String()...)
	dst = append(dst, `",`...)
	dst = appendTextOrBase64(dst, "key", ev.Key)
	dst = append(dst, ',')
	dst = appendState(dst, ev.Value, ev.Revision, ev.CreateRevision, ev.Version, ev.Lease)
	if ev.Prev != nil {
		dst = append(dst, `,"prev":`...)
		dst = appendOldValue(dst, ev.Prev)
	}
	return append(dst, '}')
}

// appendOldValue appends what a key held before.
func appendOldValue(dst []byte, kv *keyhook.KeyValue) []byte {
	dst = append(dst, '{')
	dst = appendState(dst, kv.Value, kv.Revision, kv.CreateRevision, kv.Version, kv.Lease)
	return append(dst, '}')
}

// appendState appends the members that a key has at any revision.
func appendState(dst, value []byte, revision, create, version, lease int64) []byte {
	dst = appendTextOrBase64(dst, "value", value)
	dst = append(dst, `,"revision":`...)
	dst = strconv.AppendInt(dst, revision, 10)
	dst = append(dst, `,"create_revision":`...)
	dst = strconv.AppendInt(dst, create, 10)
	dst = append(dst, `,"version":`...)
	dst = strconv.AppendInt(dst, version, 10)
	if lease != 0 {
		dst = append(dst, `,"lease":"`...)
		dst = strconv.AppendUint(dst, uint64(lease), 16) //nolint:gosec // an id, written as etcdctl does
		dst = append(dst, '"')
	}
	return dst
}

// appendTextOrBase64 appends a member as text, or under name_base64 if it is not
// UTF-8.
func appendTextOrBase64(dst []byte, name string, b []byte) []byte {
	dst = append(dst, '"')
	dst = append(dst, name...)
	if utf8.Valid(b) {
		return appendQuoted(append(dst, '"', ':'), b)
	}
	return appendBase64(append(dst, `_base64":`...), b)
}

// appendSubject appends a key as the subject of a CloudEvent, in quotes. A key
// that is not UTF-8 or has control characters is percent-encoded there, and at
// every "%", so that it can be told apart.
func appendSubject(dst, key []byte) []byte {
	if isPlain(key) {
		return appendQuoted(dst, key)
	}
	const hexDigits = "0123456789ABCDEF"
	encoded := make([]byte, 0, len(key)+16)
	for i := 0; i < len(key); {
		r, size := utf8.DecodeRune(key[i:])
		if r == '%' || unicode.IsControl(r) || r == utf8.RuneError && size == 1 {
			for _, c := range key[i : i+size] {
				encoded = append(encoded, '%', hexDigits[c>>4], hexDigits[c&15])
			}
		} else {
			encoded = append(encoded, key[i:i+size]...)
		}
		i += size
	}
	return appendQuoted(dst, encoded)
}

func isPlain(key []byte) bool {
	for i := 0; i < len(key); {
		if c := key[i]; c < utf8.RuneSelf {
			if c < ' ' || c == 0x7f {
				return false
			}
			i++
			continue
		}
		r, size := utf8.DecodeRune(key[i:])
		if r == utf8.RuneError && size == 1 || unicode.IsControl(r) {
			return false
		}
		i += size
	}
	return true
}

// cloudEventSize guesses the size of a CloudEvent.
func cloudEventSize(ev *keyhook.Event) int {
	n := 420 + 2*len(ev.Key) + len(ev.Value) + len(ev.Value)/8
	if ev.Prev != nil {
		n += 100 + len(ev.Prev.Value) + len(ev.Prev.Value)/8
	}
	return n
}
