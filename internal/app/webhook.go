package app

import (
	"keyhook"
	"keyhook/rules"
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
