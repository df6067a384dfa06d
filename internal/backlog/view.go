package backlog

import (
	"strconv"
	"time"
	"unicode/utf8"

	"keyhook"
	"keyhook/checkpoint"
)

// Letter is a dead letter as lists show it.
type Letter struct {
	ID        string         `json:"id"`
	Rule      string         `json:"rule"`
	Send      string         `json:"send"`
	Sink      string         `json:"sink"`
	Key       string         `json:"key,omitempty"`
	KeyBase64 []byte         `json:"key_base64,omitempty"` // in its place where it is not UTF-8
	Revision  int64          `json:"revision"`
	Attempts  int            `json:"attempts"`
	Reason    keyhook.Reason `json:"reason"`
	Error     string         `json:"error"`
	FailedAt  time.Time      `json:"failed_at"`
	Size      int            `json:"size"` // in bytes, as its retention counts them
}

func letterOf(l *keyhook.DeadLetter) Letter {
	d := l.Delivery
	v := Letter{
		ID: d.ID, Rule: d.Rule, Send: d.Send, Sink: d.Sink, Revision: d.Event.Revision,
		Attempts: d.Retry.Attempts, Reason: l.Reason, Error: l.Error, FailedAt: l.FailedAt.UTC(), Size: d.Size(),
	}
	v.Key, v.KeyBase64 = textOrBytes(d.Event.Key)
	return v
}

// Story is all that is known of a dead letter.
type Story struct {
	Letter
	AdmittedAt time.Time `json:"admitted_at"`
	Event      Event     `json:"event"`
	// Message is what was sent, or would have been; nil if none could be made.
	Message *Message `json:"message,omitempty"`
}

// StoryOf tells the story of a dead letter.
func StoryOf(l *keyhook.DeadLetter) *Story {
	d := l.Delivery
	s := &Story{Letter: letterOf(l), AdmittedAt: d.Admitted.UTC(), Event: eventOf(d.Event)}
	if d.Rejected == nil {
		s.Message = messageOf(&d.Message)
	}
	return s
}

// Event is a change of a key. What it has in common with the CloudEvent of a
// send without a body is written as there.
type Event struct {
	Type      string `json:"type"` // "PUT" or "DELETE"
	Key       string `json:"key,omitempty"`
	KeyBase64 []byte `json:"key_base64,omitempty"`
	Held
	Time      time.Time `json:"time"` // when keyhook received it
	Synthetic bool      `json:"synthetic,omitempty"`
	Prev      *Held     `json:"prev,omitempty"` // what the key held before
	Last      *Held     `json:"last,omitempty"` // the same across a delete, where that is another
}

// Held is what a key held.
type Held struct {
	Value          *string `json:"value,omitempty"`
	ValueBase64    []byte  `json:"value_base64,omitempty"` // in its place where it is not UTF-8
	Revision       int64   `json:"revision"`
	CreateRevision int64   `json:"create_revision"`
	Version        int64   `json:"version"`
	Lease          string  `json:"lease,omitempty"` // hexadecimal, as etcdctl writes it
}

func eventOf(e *keyhook.Event) Event {
	v := Event{
		Type: e.Type.String(), Time: e.Time.UTC(), Synthetic: e.Synthetic, Prev: heldOf(e.Prev),
		Held: *heldOf(&keyhook.KeyValue{
			Value: e.Value, Revision: e.Revision, CreateRevision: e.CreateRevision, Version: e.Version, Lease: e.Lease,
		}),
	}
	v.Key, v.KeyBase64 = textOrBytes(e.Key)
	if e.Last != e.Prev {
		v.Last = heldOf(e.Last)
	}
	return v
}

func heldOf(kv *keyhook.KeyValue) *Held {
	if kv == nil {
		return nil
	}
	h := &Held{Revision: kv.Revision, CreateRevision: kv.CreateRevision, Version: kv.Version}
	if utf8.Valid(kv.Value) {
		text := string(kv.Value)
		h.Value = &text
	} else {
		h.ValueBase64 = kv.Value
	}
	if kv.Lease != 0 {
		h.Lease = strconv.FormatUint(uint64(kv.Lease), 16) //nolint:gosec // an id, written as etcdctl does
	}
	return h
}

// Message is a message as the rule rendered it. The sink adds headers of its
// own, which are not kept: some of them are secret.
type Message struct {
	ContentType string            `json:"content_type"`
	Subject     string            `json:"subject,omitempty"`
	Headers     map[string]string `json:"headers,omitempty"`
	Body        *string           `json:"body,omitempty"`
	BodyBase64  []byte            `json:"body_base64,omitempty"` // in its place where it is not UTF-8
}

func messageOf(m *keyhook.Message) *Message {
	v := &Message{ContentType: m.ContentType, Subject: m.Subject}
	if utf8.Valid(m.Body) {
		text := string(m.Body)
		v.Body = &text
	} else {
		v.BodyBase64 = m.Body
	}
	if len(m.Headers) > 0 {
		v.Headers = make(map[string]string, len(m.Headers))
		for _, h := range m.Headers {
			v.Headers[h.Name] = h.Value
		}
	}
	return v
}

// Owed is an owed delivery as lists show it.
type Owed struct {
	ID         string     `json:"id"`
	Rule       string     `json:"rule"`
	Send       string     `json:"send"`
	Sink       string     `json:"sink"`
	Key        string     `json:"key,omitempty"`
	KeyBase64  []byte     `json:"key_base64,omitempty"`
	Revision   int64      `json:"revision"`
	Attempts   int        `json:"attempts"`
	Error      string     `json:"error"` // of the last attempt
	AdmittedAt time.Time  `json:"admitted_at"`
	DueAt      *time.Time `json:"due_at,omitempty"` // of the next attempt, where one has failed; or of what waits for its time
	Size       int        `json:"size"`             // in bytes
}

func owedOf(d *keyhook.Delivery) Owed {
	v := Owed{
		ID: d.ID, Rule: d.Rule, Send: d.Send, Sink: d.Sink, Revision: d.Event.Revision,
		Attempts: d.Retry.Attempts, Error: d.Retry.Error, AdmittedAt: d.Admitted.UTC(), Size: d.Size(),
	}
	v.Key, v.KeyBase64 = textOrBytes(d.Event.Key)
	if !d.Retry.Due.IsZero() {
		due := d.Retry.Due.UTC()
		v.DueAt = &due
	}
	return v
}

func textOrBytes(b []byte) (text string, raw []byte) {
	if utf8.Valid(b) {
		return string(b), nil
	}
	return "", b
}

func refOf(a *checkpoint.Admission) checkpoint.Ref {
	return checkpoint.Ref{Lane: a.Lane, Chain: a.Chain, Ordinal: a.Delivery.Ordinal}
}
