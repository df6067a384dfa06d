package app

import (
	"errors"

	"keyhook"
	"keyhook/rules"
	"keyhook/sinks/nats"
	"keyhook/sinks/webhook"
)

// checkWebhook says what is wrong with a webhook, in the terms of the file.
func checkWebhook(spec rules.WebhookSpec) []rules.FieldProblem {
	s, err := webhook.New(webhookConfig(&spec))
	if err == nil {
		err = s.Close()
	}
	return fieldProblems(err)
}

// fieldProblems takes apart what the New of a sink has joined.
func fieldProblems(err error) []rules.FieldProblem {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		var all []rules.FieldProblem
		for _, err := range joined.Unwrap() {
			all = append(all, fieldProblems(err)...)
		}
		return all
	}
	var ofWebhook *webhook.FieldError
	if errors.As(err, &ofWebhook) {
		return []rules.FieldProblem{{Field: ofWebhook.Field, Message: ofWebhook.Message, Hint: ofWebhook.Hint}}
	}
	var ofNATS *nats.FieldError
	if errors.As(err, &ofNATS) {
		return []rules.FieldProblem{{Field: ofNATS.Field, Message: ofNATS.Message, Hint: ofNATS.Hint}}
	}
	return []rules.FieldProblem{{Field: "the sink", Message: "cannot be used: " + err.Error()}}
}

// webhookConfig returns what spec says in the terms of the sink.
func webhookConfig(spec *rules.WebhookSpec) webhook.Config {
	cfg := webhook.Config{
		URL:     spec.URL.Reveal(),
		Timeout: spec.Timeout,
		RetryOn: spec.RetryOn,
		DeadOn:  spec.DeadOn,
	}
	for _, h := range spec.Headers {
		cfg.Headers = append(cfg.Headers, keyhook.Header{Name: h.Name, Value: h.Value.Reveal()})
	}
	for _, secret := range spec.Sign {
		cfg.Sign = append(cfg.Sign, secret.Reveal())
	}
	return cfg
}
