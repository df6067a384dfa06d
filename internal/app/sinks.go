package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"

	"keyhook/dispatcher"
	"keyhook/rules"
	"keyhook/sinks"
	"keyhook/sinks/nats"
	"keyhook/sinks/webhook"
)

// newDeliverer makes what spec describes. Its errors hold no secret.
func newDeliverer(spec rules.SinkSpec, version string, log *slog.Logger) (sinks.Sink, error) {
	switch {
	case spec.Webhook != nil:
		return newWebhook(spec, version)
	case spec.NATS != nil:
		return newNATS(spec, version, log)
	}
	return nil, errors.New("there is nothing to deliver to")
}

func newWebhook(spec rules.SinkSpec, version string) (sinks.Sink, error) {
	cfg := webhookConfig(spec.Webhook)
	cfg.Concurrency, cfg.Version = spec.Concurrency, version
	s, err := webhook.New(cfg)
	if err != nil {
		return nil, err // not s, which would be a sink that is none
	}
	return s, nil
}

func newNATS(spec rules.SinkSpec, version string, log *slog.Logger) (sinks.Sink, error) {
	cfg := natsConfig(spec.NATS)
	cfg.Version, cfg.Log = version, log.With("sink", spec.Name)
	s, err := nats.New(cfg)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// dispatcherSinks makes all sinks of a set; none if one of them fails.
func dispatcherSinks(specs []rules.SinkSpec, version string, log *slog.Logger) ([]dispatcher.Sink, error) {
	all := make([]dispatcher.Sink, 0, len(specs))
	for _, spec := range specs {
		deliverer, err := newDeliverer(spec, version, log)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("sink %q: %w", spec.Name, err), closeSinks(all))
		}
		sink := DispatcherSink(spec)
		sink.Deliverer = deliverer
		all = append(all, sink)
	}
	return all, nil
}

// tryOut tries sinks, at the start and after each reload, so that a mistake in
// their configuration shows before there is something to deliver.
func (r *run) tryOut(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case all := <-r.made:
			r.try(ctx, all)
		}
	}
}

func (r *run) try(ctx context.Context, all []dispatcher.Sink) {
	var trying sync.WaitGroup
	for _, s := range all {
		d, ok := s.Deliverer.(interface{ Check(context.Context) error })
		if !ok {
			continue
		}
		trying.Go(func() {
			err := d.Check(ctx)
			if err == nil || ctx.Err() != nil || errors.Is(err, nats.ErrClosed) {
				return // a reload closes what it has no use for
			}
			r.log.Warn("a sink cannot deliver at the moment", "sink", s.Name, "error", err)
		})
	}
	trying.Wait()
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
	fmt.Fprintf(&b, "%+v %d %q\n", spec.Breaker, spec.MaxOwed, spec.DeadLetter)
	if w := spec.Webhook; w != nil {
		fmt.Fprintf(&b, "webhook %q %s %v %v\n", w.URL.Reveal(), w.Timeout, w.RetryOn, w.DeadOn)
		for _, h := range w.Headers {
			fmt.Fprintf(&b, "header %q %q\n", h.Name, h.Value.Reveal())
		}
		for _, secret := range w.Sign {
			fmt.Fprintf(&b, "sign %q\n", secret.Reveal())
		}
	}
	if n := spec.NATS; n != nil {
		fmt.Fprintf(&b, "nats %q %t %q %t %t %q %s %d\n", n.URL.Reveal(), n.JetStream, n.Stream, n.Request, n.Binary, n.InboxPrefix, n.Timeout, n.MaxPending)
		fmt.Fprintf(&b, "user %q %q %q %q %q\n", n.User.Reveal(), n.Password.Reveal(), n.Token.Reveal(), n.NKey.Reveal(), n.CredsFile)
		if t := n.TLS; t != nil {
			fmt.Fprintf(&b, "tls %q %q %q %t\n", t.CAFile, t.CertFile, t.KeyFile, t.HandshakeFirst)
		}
	}
	sum := sha256.Sum256([]byte(b.String()))
	return hex.EncodeToString(sum[:])
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
