package webhook_test

import (
	"net/http"
	"testing"
	"time"

	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

// A judgement without a request is that of a request.
func TestJudge(t *testing.T) {
	s, err := webhook.New(webhook.Config{URL: "http://127.0.0.1/", Timeout: time.Second, RetryOn: []int{422}, DeadOn: []int{503}})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for status, want := range map[int]sinks.Kind{400: sinks.Rejected, 422: sinks.Retry, 503: sinks.Rejected, 410: sinks.Hold, 500: sinks.Retry} {
		if got := s.Judge(status, nil); got == nil || sinks.KindOf(got) != want {
			t.Errorf("%d: %v, want kind %s", status, got, want)
		}
	}
	if err := s.Judge(204, nil); err != nil {
		t.Errorf("204: %v", err)
	}
	if err := s.Judge(429, http.Header{"Retry-After": {"30"}}); sinks.KindOf(err) != sinks.Throttled {
		t.Errorf("429: %v", err)
	}
	if got := s.Unanswered().Error(); got != "no answer within 1s" {
		t.Errorf("no answer: %s", got)
	}
	if got := s.Unreachable(); sinks.KindOf(got) != sinks.Retry {
		t.Errorf("nobody listens: %v", got)
	}
}
