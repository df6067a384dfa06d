//go:build !nodev

package dev_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"keyhook/internal/cli/dev"
	"keyhook/internal/strictyaml"
)

const leases = `
sinks: [{name: s, webhook: {url: "http://127.0.0.1:1/"}}]
rules:
  - {name: born, keys: "/n/{x}", when: event.created, send: {sink: s, body: '"born " + event.value'}}
  - {name: lost, keys: "/n/{x}", when: 'event.type == "DELETE" && event.prev.lease != 0', send: {sink: s, body: '"lost"'}}
  - {name: left, keys: "/n/{x}", when: 'event.type == "DELETE" && event.prev.lease == 0', send: {sink: s, body: '"left"'}}
`

// play plays a story beside the rules above, once.
func play(t *testing.T, story string) (*screen, error) {
	t.Helper()
	clean(t)
	config := configuration(t, "rules: [rules.yaml]\n", leases)
	if err := os.WriteFile(filepath.Join(filepath.Dir(config), "story.yaml"), []byte(story), 0o600); err != nil {
		t.Fatal(err)
	}
	screen := newScreen()
	return screen, dev.Run(t.Context(), dev.Options{Config: config, Once: true, Out: screen})
}

func TestAStoryOfItsOwn(t *testing.T) {
	screen, err := play(t, `
title: Two nodes
steps:
  - {why: The first., put: /n/1, value: one, lease: true, expect: [born]}
  - {put: /n/2, value: two, refuse: true, expect: [born]}
  - {put: /n/2, value: two, expect: []}
  - {expire: /n/1, expect: [lost]}
  - {delete: /n/2, expect: [left]}
`)
	if err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	for _, want := range []string{"Two nodes:\n", "  The first.\n  put /n/1 = one\n", "→ 503  born ⇒ s", "no rule matches", "All 4 deliveries arrived"} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
}

func TestAStoryThatComesToSomethingElse(t *testing.T) {
	screen, err := play(t, `
title: A node
steps:
  - {put: /n/1, value: one, expect: []}
  - {put: /n/1, value: two, expect: [born]}
  - {delete: /n/1}
`)
	if err == nil || !strings.Contains(err.Error(), "2 changes of the story came to something else than expected") {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{
		"put /n/1 = one\n", "✗ expected of this: nothing; came of it: born\n",
		"put /n/1 = two\n    no rule matches\n    ✗ expected of this: born; came of it: nothing\n",
		"✗ 2 deliveries arrived.\n",
	} {
		if !strings.Contains(screen.String(), want) {
			t.Errorf("no %q in\n%s", want, screen)
		}
	}
}

func TestMistakesInAStoryAreReportedAtOnce(t *testing.T) {
	screen, err := play(t, `
titel: A node
steps:
  - {put: /n/1, delete: /n/1}
  - {why: nothing}
  - {delete: /n/1, value: x}
  - {expire: /n/1}
  - {put: /n/1, lease: true}
  - {put: /n/1}
  - {expire: /n/1}
`)
	var problems strictyaml.Problems
	if !errors.As(err, &problems) || len(problems) != 7 {
		t.Fatalf("got %v", err)
	}
	for _, want := range []string{
		`story.yaml:2:1: unknown field "titel"`, `missing field "title"`, "story.yaml:4:5: a step is one of put, delete and expire", "story.yaml:5:5: a step is",
		"story.yaml:6:5: value and lease belong to a put", `story.yaml:7:5: the key "/n/1" has no lease`, `story.yaml:10:5: the key "/n/1" has no lease`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("no %q in\n%v", want, err)
		}
	}
	if screen.String() != "" {
		t.Errorf("it has begun:\n%s", screen)
	}
}

func TestAStoryFromElsewhere(t *testing.T) {
	clean(t)
	config := configuration(t, "rules: [rules.yaml]\n", leases)
	story := filepath.Join(t.TempDir(), "other.yaml")
	if err := os.WriteFile(story, []byte("title: One node\nsteps: [{put: /n/1, value: x, expect: [born]}]\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	screen := newScreen()
	if err := dev.Run(t.Context(), dev.Options{Config: config, Story: story, Once: true, Out: screen}); err != nil {
		t.Fatalf("%v\n%s", err, screen)
	}
	screen.await(t, `One node:(?s:.*)✓ 1 delivery arrived`)
	err := dev.Run(t.Context(), dev.Options{Config: config, Story: story + ".none", Once: true, Out: screen})
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
