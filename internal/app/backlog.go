package app

import (
	"bytes"
	"encoding/json"

	"keyhook"
	"keyhook/internal/backlog"
	"keyhook/rules"
)

// openBacklog makes what the admin server asks.
func (r *run) openBacklog() (*backlog.Backlog, error) {
	return backlog.New(backlog.Config{
		Store:      r.store,
		Dispatcher: r.dispatcher,
		Live:       true,
		Renderer: func() (backlog.Renderer, error) {
			r.mu.Lock()
			defer r.mu.Unlock()
			return renderer(r.rules.set, r.source()), nil
		},
	})
}

// renderer makes messages with the rules of set.
func renderer(set *rules.Set, source string) backlog.Renderer {
	return func(d *keyhook.Delivery) (*keyhook.Delivery, error) {
		return set.Again(rules.Source{Name: source}, d) // the id stays, and so the epoch is of no use
	}
}

// source returns what names the etcd; empty before the first start has found
// out. It may be called while the dispatcher decides.
func (r *run) source() string {
	if name := r.sourceName.Load(); name != nil {
		return *name
	}
	return r.dispatcher.Checkpoint().Source
}

// story tells sink of a dead letter; it implements [dispatcher.Config.Story].
func (r *run) story(l *keyhook.DeadLetter, number uint64, sink string) *keyhook.Delivery {
	d, err := DeadLetterStory(r.source(), l, number, sink)
	if err != nil {
		r.log.Error("a dead letter cannot be told of", "id", l.Delivery.ID, "sink", sink, "error", err)
	}
	return d
}

// DeadLetterStory returns what tells sink of a dead letter of a source; nil if
// nothing does.
func DeadLetterStory(source string, l *keyhook.DeadLetter, number uint64, sink string) (*keyhook.Delivery, error) {
	var data bytes.Buffer
	enc := json.NewEncoder(&data)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(backlog.StoryOf(l)); err != nil {
		return nil, err
	}
	return rules.DeadLetterEvent(source, l, number, sink, bytes.TrimSpace(data.Bytes())), nil
}
