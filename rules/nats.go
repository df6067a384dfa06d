package rules

import (
	"path/filepath"

	"keyhook/internal/strictyaml"
)

const maxMaxPending = 1_000_000

// nats returns a NATS server with its defaults.
func (l *sinkLoader) nats(e *natsEntry) *NATSSpec {
	p := places{"url": e.URL.Position}
	spec := &NATSSpec{
		URL:         e.URL.Value,
		JetStream:   placed(p, "jetstream", e.JetStream, false),
		Stream:      placed(p, "stream", e.Stream, ""),
		Request:     placed(p, "request", e.Request, false),
		User:        placed(p, "user", e.User, strictyaml.Secret{}),
		Password:    placed(p, "password", e.Password, strictyaml.Secret{}),
		Token:       placed(p, "token", e.Token, strictyaml.Secret{}),
		NKey:        placed(p, "nkey", e.NKey, strictyaml.Secret{}),
		CredsFile:   beside(placed(p, "creds_file", e.CredsFile, ""), e.Position.Path),
		InboxPrefix: placed(p, "inbox_prefix", e.InboxPrefix, ""),
		Timeout:     placed(p, "timeout", e.Timeout, strictyaml.Duration(defaultTimeout)).Std(),
		MaxPending:  placed(p, "max_pending", e.MaxPending, defaultMaxPending),
	}
	if t := e.TLS; t != nil {
		spec.TLS = &NATSTLSSpec{
			CAFile:         beside(placed(p, "tls.ca_file", t.CAFile, ""), e.Position.Path),
			CertFile:       beside(placed(p, "tls.cert_file", t.CertFile, ""), e.Position.Path),
			KeyFile:        beside(placed(p, "tls.key_file", t.KeyFile, ""), e.Position.Path),
			HandshakeFirst: t.HandshakeFirst,
		}
	}
	switch mode := placed(p, "cloudevents", e.CloudEvents, "structured"); mode {
	case "structured":
	case "binary":
		spec.Binary = true
	default:
		l.fail(p["cloudevents"], strictyaml.DidYouMean(mode, []string{"structured", "binary"}), "%q is not a mode of CloudEvents: structured or binary", mode)
	}
	if spec.Timeout <= 0 {
		l.fail(p["timeout"], "", "timeout must be above 0")
	}
	if spec.MaxPending < 1 || spec.MaxPending > maxMaxPending {
		l.fail(p["max_pending"], "", "max_pending must be between 1 and %d", maxMaxPending)
	}
	if l.checkNATS != nil && e.complete() {
		l.reject(l.checkNATS(*spec), p, e.Position)
	}
	return spec
}

// complete reports whether no secret is missing; what is has been reported.
func (e *natsEntry) complete() bool {
	for _, secret := range []*strictyaml.At[strictyaml.Secret]{&e.URL, e.User, e.Password, e.Token, e.NKey} {
		if secret != nil && !secret.IsSet() {
			return false
		}
	}
	return true
}

// beside returns the path of a file that is named in the file at origin.
func beside(path, origin string) string {
	if path == "" || filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(filepath.Dir(origin), path)
}
