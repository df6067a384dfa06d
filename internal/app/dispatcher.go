package app

import (
	"keyhook/dispatcher"
	"keyhook/internal/config"
	"keyhook/rules"
)

// dispatcherRules returns what the dispatcher must know of a set.
func dispatcherRules(set *rules.Set) *dispatcher.Rules {
	renamed := set.Renamed()
	known := &dispatcher.Rules{RenamedRules: renamed.Rules, RenamedSinks: renamed.Sinks}
	for _, r := range set.Rules() {
		for _, s := range r.Sends {
			known.Sends = append(known.Sends, dispatcher.Send{
				Rule: r.Name, Send: s.Name, Sink: s.Sink, Timing: r.Timing, Keys: r.Ranges,
			})
		}
	}
	return known
}

// DispatcherSink returns how the dispatcher treats a sink, without what
// delivers.
func DispatcherSink(spec rules.SinkSpec) dispatcher.Sink {
	return dispatcher.Sink{
		Name:        spec.Name,
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
		Breaker: dispatcher.Breaker{
			Off: spec.Breaker.Off, Failures: spec.Breaker.Failures, Open: spec.Breaker.Open, Probes: spec.Breaker.Probes,
		},
		MaxOwed:      spec.MaxOwed,
		DeadLetterTo: spec.DeadLetter,
	}
}

func retention(d config.DeadLetters) dispatcher.Retention {
	return dispatcher.Retention{MaxAge: d.MaxAge, MaxNumber: d.MaxNumber, MaxBytes: d.MaxBytes}
}
