//go:build !nodev

package dev_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/nats.go"

	"keyhook/internal/cli/dev"
	"keyhook/internal/natstest"
)

// Whatever a configuration says of its NATS servers, what it sends stays in the
// process, and arrives there on each of the three ways.
func TestNATSIsTriedWithoutTheServersOfTheConfiguration(t *testing.T) {
	clean(t)
	server := natstest.Start(t, nil)
	outside := make(chan *nats.Msg, 100)
	if _, err := server.Client().ChanSubscribe(">", outside); err != nil {
		t.Fatal(err)
	}
	config := configuration(t, "rules: [rules.yaml]\n", strings.ReplaceAll(`
sinks:
  - {name: kept, nats: {url: "URL", jetstream: true, stream: AUDIT, user: u, password: secret, tls: {}}}
  - {name: any, nats: {url: "URL", jetstream: true, token: secret}}
  - {name: plain, nats: {url: "URL", cloudevents: binary}}
  - {name: asked, nats: {url: "URL", request: true, inbox_prefix: _MINE}}
rules:
  - name: leaders
    keys: /service/{x...}
    when: event.type == "DELETE"
    send:
      - {sink: kept, subject: '"audit." + nats.token(event.key)'}
      - {sink: any, subject: '"audit.too"', body: '"any"'}
      - {sink: plain, subject: '"audit.plain"'}
      - {sink: asked, subject: '"lost"', body: '"asked"'}
`, "URL", server.URL()))
	screen := newScreen()
	if err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	for _, want := range []string{
		`→ stored  leaders ⇒ kept .*\n.*\n        subject audit\.%\.service\.prod-db\.leader  number 1 of the stream AUDIT\n        CloudEvent keyhook\.etcd\.delete about /service/prod-db/leader\n`,
		`→ stored  leaders ⇒ any .*\n.*\n        subject audit\.too  number \d of the stream EVENTS\n        any\n`,
		`→ heard  leaders ⇒ plain .*\n.*\n        subject audit\.plain\n        CloudEvent keyhook\.etcd\.delete about /service/prod-db/leader\n        \{"type":"DELETE","key":`,
		`→ answered  leaders ⇒ asked .*\n.*\n        subject lost\n        asked\n`,
		`All 4 deliveries arrived`,
	} {
		screen.await(t, want)
	}
	if len(outside) > 0 {
		t.Errorf("something was sent outside: %v", <-outside)
	}
}

// A subject that nothing can be published to is a dead letter here as elsewhere.
func TestABadSubjectEndsTheStory(t *testing.T) {
	clean(t)
	config := configuration(t, "rules: [rules.yaml]\n", `
sinks: [{name: bus, nats: {url: "nats://127.0.0.1:1", jetstream: true}}]
rules: [{name: leaders, keys: "/service/{x...}", send: {sink: bus, subject: '"a.*"'}}]
`)
	screen := newScreen()
	err := dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen, Timeout: time.Hour})
	if err == nil || !strings.Contains(err.Error(), "1 delivery became a dead letter") {
		t.Fatalf("got %v\n%s", err, screen)
	}
	screen.await(t, `✗ dead letter  leaders ⇒ bus  rejected`)
}

// Who is told of dead letters is told here as well, in a stream that is there.
func TestDeadLettersAreToldOnNATS(t *testing.T) {
	clean(t)
	config := configuration(t, "rules: [rules.yaml]\n", `
sinks:
  - {name: s, webhook: {url: "http://127.0.0.1:1/"}, dead_letter: morgue}
  - {name: morgue, nats: {url: "nats://127.0.0.1:1", jetstream: true, stream: MORGUE}}
rules: [{name: leaders, keys: "/service/{x...}", send: {sink: s, body: event.json.missing}}]
`)
	screen := newScreen()
	ctx, interrupt := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx, dev.Options{Config: config, Out: screen}) }()
	screen.await(t, `→ stored  keyhook ⇒ NATS\n.*\n        subject keyhook\.dead_letter  number 1 of the stream MORGUE\n        CloudEvent keyhook\.dead_letter about /service/prod-db/leader`)
	interrupt()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
