package natsinbox

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// DefaultStream stores what sinks send that name no stream.
const DefaultStream = "EVENTS"

// maxFilters bounds the subjects that an inbox listens to or a stream takes.
const maxFilters = 4096

// maxStored is how much a stream holds, in bytes.
const maxStored = 32 << 20

// Way is what a delivery is acknowledged by.
type Way int

// The ways to deliver to NATS. Nobody is told of a message whose way is Unknown.
const (
	Unknown Way = iota
	Core
	Request
	JetStream
)

// Config says what an inbox does with messages. Both functions are required, and
// are called by several goroutines at once.
type Config struct {
	// Way returns how the delivery with this id travels, which came on subject.
	Way func(id, subject string) Way
	// Arrived is told of each message when it has arrived.
	Arrived func(Message)
}

// Message is one message as it arrived.
type Message struct {
	ID      string // of Nats-Msg-Id
	Way     Way
	Time    time.Time
	Subject string
	Header  nats.Header
	Body    []byte

	Stream   string // which holds it, if it travelled by JetStream
	Sequence uint64 // its number there
}

// Inbox receives messages from one server.
type Inbox struct {
	cfg  Config
	conn *nats.Conn
	js   jetstream.JetStream

	mu        sync.Mutex // held while streams and listeners are made
	layout    *layout
	consumers map[string]jetstream.ConsumeContext // by stream
	listeners *layout                             // of the one stream that is none: core NATS
}

// Connect returns an inbox on the server at url. The caller closes it.
func Connect(url string, cfg Config) (*Inbox, error) {
	conn, err := nats.Connect(url, nats.Name("keyhook inbox"), nats.MaxReconnects(-1), nats.ReconnectWait(50*time.Millisecond))
	if err != nil {
		return nil, fmt.Errorf("NATS inbox: %w", err)
	}
	js, err := jetstream.New(conn)
	if err != nil {
		conn.Close()
		return nil, fmt.Errorf("NATS inbox: %w", err)
	}
	return &Inbox{
		cfg: cfg, conn: conn, js: js,
		layout: newLayout(), listeners: newLayout(), consumers: make(map[string]jetstream.ConsumeContext),
	}, nil
}

// Close ends all that the inbox has begun. Streams stay.
func (b *Inbox) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, c := range b.consumers {
		c.Stop()
	}
	b.conn.Close()
	for _, c := range b.consumers {
		<-c.Closed()
	}
}

// AddStream makes a stream that is looked for before there is anything to
// store.
func (b *Inbox) AddStream(ctx context.Context, stream string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.layout.add(stream) {
		return nil
	}
	return b.make(ctx, stream)
}

// Expect prepares for a message that is about to be sent to subject on its way,
// by JetStream to the stream named, or to DefaultStream. When it returns nil the
// message will arrive, unless nothing can be published to its subject.
func (b *Inbox) Expect(ctx context.Context, way Way, stream, subject string) error {
	if !publishable(subject) {
		return nil // whoever sends it will be told
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	switch way {
	case JetStream:
		if stream == "" {
			stream = DefaultStream
		}
		return b.store(ctx, stream, subject)
	case Core, Request:
		return b.listen(subject)
	}
	return nil
}

// store makes a stream take a subject.
func (b *Inbox) store(ctx context.Context, stream, subject string) error {
	if len(b.layout.streams[stream]) >= maxFilters {
		return fmt.Errorf("stream %s: it takes %d subjects already", stream, maxFilters)
	}
	var errs []error
	before := slices.Clone(b.layout.streams[stream])
	for _, changed := range b.layout.cover(stream, subject) {
		errs = append(errs, b.make(ctx, changed))
	}
	err := errors.Join(errs...)
	if err != nil {
		b.layout.streams[stream] = before // so that other subjects fare better
	}
	return err
}

// publishable reports whether subject is one that messages can have.
func publishable(subject string) bool {
	for token := range strings.SplitSeq(subject, ".") {
		if token == "" || strings.ContainsAny(token, " \t\r\n*>") {
			return false
		}
	}
	return true
}

// make makes a stream as the layout has it, and listens to what it stores.
func (b *Inbox) make(ctx context.Context, name string) error {
	stream, err := b.js.CreateOrUpdateStream(ctx, jetstream.StreamConfig{
		Name: name, Subjects: b.layout.streams[name],
		Storage: jetstream.MemoryStorage, MaxBytes: maxStored, Discard: jetstream.DiscardOld,
	})
	if err != nil {
		return fmt.Errorf("make the stream %s: %w", name, err)
	}
	if b.consumers[name] != nil {
		return nil
	}
	consumer, err := stream.OrderedConsumer(ctx, jetstream.OrderedConsumerConfig{})
	if err != nil {
		return fmt.Errorf("read the stream %s: %w", name, err)
	}
	c, err := consumer.Consume(b.stored)
	if err != nil {
		return fmt.Errorf("read the stream %s: %w", name, err)
	}
	b.consumers[name] = c
	return nil
}

// stored is told of what streams hold.
func (b *Inbox) stored(m jetstream.Msg) {
	id := m.Headers().Get(nats.MsgIdHdr)
	if b.cfg.Way(id, m.Subject()) != JetStream {
		return
	}
	message := Message{ID: id, Way: JetStream, Time: time.Now(), Subject: m.Subject(), Header: m.Headers(), Body: m.Data()}
	if meta, err := m.Metadata(); err == nil { // always, of what comes from a stream
		message.Stream, message.Sequence = meta.Stream, meta.Sequence.Stream
	}
	b.cfg.Arrived(message)
}

const core = "core"

// listen subscribes to a subject.
func (b *Inbox) listen(subject string) error {
	before := len(b.listeners.streams[core])
	if before >= maxFilters {
		return fmt.Errorf("core NATS: %d subjects are listened to already", maxFilters)
	}
	b.listeners.cover(core, subject)
	for _, filter := range b.listeners.streams[core][before:] {
		if _, err := b.conn.Subscribe(filter, b.heard); err != nil {
			return fmt.Errorf("listen to %s: %w", filter, err)
		}
		if err := b.conn.Flush(); err != nil {
			return fmt.Errorf("listen to %s: %w", filter, err)
		}
	}
	return nil
}

// heard is told of what is published.
func (b *Inbox) heard(m *nats.Msg) {
	id := m.Header.Get(nats.MsgIdHdr)
	way := b.cfg.Way(id, m.Subject)
	if way != Core && way != Request {
		return
	}
	message := Message{ID: id, Way: way, Time: time.Now(), Subject: m.Subject, Header: m.Header, Body: m.Data}
	if way == Request {
		// Without a connection there is nobody who waits for it.
		if err := m.Respond([]byte("ok")); err != nil {
			return
		}
	}
	b.cfg.Arrived(message)
}
