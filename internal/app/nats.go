package app

import (
	"keyhook/rules"
	"keyhook/sinks/nats"
)

// checkNATS says what is wrong with a NATS server, in the terms of the file.
func checkNATS(spec rules.NATSSpec) []rules.FieldProblem {
	s, err := nats.New(natsConfig(&spec))
	if err == nil {
		err = s.Close()
	}
	return fieldProblems(err)
}

// natsConfig returns what spec says in the terms of the sink.
func natsConfig(spec *rules.NATSSpec) nats.Config {
	cfg := nats.Config{
		URL:         spec.URL.Reveal(),
		JetStream:   spec.JetStream,
		Stream:      spec.Stream,
		Request:     spec.Request,
		Binary:      spec.Binary,
		User:        spec.User.Reveal(),
		Password:    spec.Password.Reveal(),
		Token:       spec.Token.Reveal(),
		NKey:        spec.NKey.Reveal(),
		CredsFile:   spec.CredsFile,
		InboxPrefix: spec.InboxPrefix,
		Timeout:     max(spec.Timeout, 0), // which has been reported
		MaxPending:  max(spec.MaxPending, 0),
	}
	if t := spec.TLS; t != nil {
		cfg.TLS = &nats.TLS{CAFile: t.CAFile, CertFile: t.CertFile, KeyFile: t.KeyFile, HandshakeFirst: t.HandshakeFirst}
	}
	return cfg
}
