package rules

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"strconv"
	"strings"
	"time"

	"keyhook"
)

// DeadLetterSubject is where the stories of dead letters go in NATS.
const DeadLetterSubject = "keyhook.dead_letter"

// storySend begins the names of sends that tell stories.
const storySend = "dead_letter:"

// DeadLetterEvent returns what tells sink of a dead letter, which has a number:
// a CloudEvent of type "keyhook.dead_letter" with data, a JSON value. Its id
// follows from the delivery and the number: it is the same when it is made again
// after a crash, and another one when the same delivery is given up once more.
// It returns nil for the dead letter of a story: stories about stories would
// never end.
func DeadLetterEvent(source string, l *keyhook.DeadLetter, number uint64, sink string, data []byte) *keyhook.Delivery {
	of := l.Delivery
	if strings.HasPrefix(of.Send, storySend) {
		return nil
	}
	d := &keyhook.Delivery{
		ID:   deadLetterID(of, number),
		Rule: of.Rule, Send: storySend + of.Sink, Sink: sink,
		Event: of.Event,
	}
	body := appendEnvelope(nil, source, d.ID)
	body = append(body, `,"type":"keyhook.dead_letter","subject":`...)
	body = appendSubject(body, of.Event.Key)
	body = append(body, `,"time":"`...)
	body = l.FailedAt.UTC().AppendFormat(body, time.RFC3339Nano)
	body = append(body, `","datacontenttype":"application/json","data":`...)
	body = append(body, data...)
	d.Message = keyhook.Message{ContentType: contentCloudEvent, Subject: DeadLetterSubject, Body: append(body, '}')}
	return d
}

// deadLetterID has the form of other delivery ids.
func deadLetterID(of *keyhook.Delivery, number uint64) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("keyhook.dead_letter\x00"+of.ID), number))
	return strconv.FormatInt(of.Event.Revision, 10) + "-" + hex.EncodeToString(sum[:16])
}
