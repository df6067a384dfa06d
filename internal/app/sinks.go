package app

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"keyhook"
	"keyhook/dispatcher"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
	"keyhook/sinks"
	"keyhook/sinks/webhook"
)

// checkSink says whether a sink could be made of spec.
func checkSink(spec rules.SinkSpec) strictyaml.Problems {
	s, err := newDeliverer(spec, "")
	if err == nil {
		err = s.Close()
	}
	if err == nil {
		return nil
	}
	problem := func(err error) strictyaml.Problem {
		p := spec.Position.Problemf("sink %q: %s", spec.Name, err)
		var field *webhook.FieldError
		if errors.As(err, &field) {
			p.Hint = field.Hint
		}
		return p
	}
	var problems strictyaml.Problems
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		for _, err := range joined.Unwrap() {
			problems = append(problems, problem(err))
		}
		return problems
	}
	return strictyaml.Problems{problem(err)}
}

// newDeliverer makes what spec describes. Its errors hold no secret.
func newDeliverer(spec rules.SinkSpec, version string) (sinks.Sink, error) {
	if spec.Webhook == nil {
		return nil, errors.New("there is nothing to deliver to")
	}
	w := spec.Webhook
	cfg := webhook.Config{
		URL:         w.URL.Reveal(),
		Timeout:     w.Timeout,
		Concurrency: spec.Concurrency,
		RetryOn:     w.RetryOn,
		DeadOn:      w.DeadOn,
		Version:     version,
	}
	for _, h := range w.Headers {
		cfg.Headers = append(cfg.Headers, keyhook.Header{Name: h.Name, Value: h.Value.Reveal()})
	}
	for _, secret := range w.Sign {
		cfg.Sign = append(cfg.Sign, secret.Reveal())
	}
	return webhook.New(cfg)
}

// dispatcherSinks makes all sinks of a set; none if one of them fails.
func dispatcherSinks(specs []rules.SinkSpec, version string) ([]dispatcher.Sink, error) {
	all := make([]dispatcher.Sink, 0, len(specs))
	for _, spec := range specs {
		deliverer, err := newDeliverer(spec, version)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("sink %q: %w", spec.Name, err), closeSinks(all))
		}
		all = append(all, dispatcher.Sink{
			Name:        spec.Name,
			Deliverer:   deliverer,
			Concurrency: spec.Concurrency,
			Rate:        spec.Rate,
			Retry: dispatcher.Retry{
				Initial:     spec.Retry.Initial,
				Multiplier:  spec.Retry.Multiplier,
				Max:         spec.Retry.Max,
				Jitter:      spec.Retry.Jitter,
				MaxAttempts: spec.Retry.MaxAttempts,
				MaxAge:      spec.Retry.MaxAge,
			},
			Fingerprint: fingerprint(spec),
		})
	}
	return all, nil
}

// closeSinks closes sinks that no dispatcher runs.
func closeSinks(all []dispatcher.Sink) error {
	errs := make([]error, len(all))
	for i, s := range all {
		errs[i] = s.Deliverer.Close()
	}
	return errors.Join(errs...)
}

// fingerprint is equal for specs that make the same sink. It is a hash, because
// secrets are part of what makes a sink.
func fingerprint(spec rules.SinkSpec) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%q %d %g %+v\n", spec.Name, spec.Concurrency, spec.Rate, spec.Retry)
	if w := spec.Webhook; w != nil {
		fmt.Fprintf(&b, "webhook %q %s %v %v\n", w.URL.Reveal(), w.Timeout, w.RetryOn, w.DeadOn)
		for _, h := range w.Headers {
			fmt.Fprintf(&b, "header %q %q\n", h.Name, h.Value.Reveal())
		}
		for _, secret := range w.Sign {
			fmt.Fprintf(&b, "sign %q\n", secret.Reveal())
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
}
