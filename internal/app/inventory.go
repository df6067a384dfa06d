package app

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"keyhook"
	"keyhook/internal/compare"
	"keyhook/internal/config"
	"keyhook/internal/strictyaml"
	"keyhook/rules"
)

// inventory returns the inventory of a configuration with its rules. Paths are
// relative to the configuration, so that it may lie elsewhere.
func inventory(cfg *config.Config, set *rules.Set, ranges []keyhook.Range, key []byte) *compare.Inventory {
	inv := &compare.Inventory{Key: key, Ranges: ranges}
	for _, w := range set.Written() {
		t := taker{key: key}
		for _, f := range w.Fields {
			if f.Expression {
				t.hidden(f.Name, f.Text)
			} else {
				t.text(f.Name, f.Text)
			}
		}
		inv.Rules = append(inv.Rules, compare.Item{Name: w.Name, Was: w.Was, Fields: t.fields})
	}
	dir := filepath.Dir(cfg.Path)
	for _, spec := range set.Sinks() {
		t := taker{key: key, dir: dir}
		t.sink(&spec)
		inv.Sinks = append(inv.Sinks, compare.Item{Name: spec.Name, Was: spec.Was, Fields: t.fields})
	}
	t := taker{key: key, dir: dir}
	t.settings(cfg)
	inv.Settings = t.fields
	return inv
}

// taker gathers fields.
type taker struct {
	key    []byte
	dir    string // of the configuration
	fields []compare.Field
}

func (t *taker) text(name, text string) {
	if text != "" {
		t.fields = append(t.fields, compare.Field{Name: name, Text: text})
	}
}

func (t *taker) hidden(name, text string) {
	if text != "" {
		t.fields = append(t.fields, compare.Hidden(t.key, name, text))
	}
}

func (t *taker) secret(name string, s strictyaml.Secret) { t.hidden(name, s.Reveal()) }

func (t *taker) number(name string, n int) {
	if n != 0 {
		t.text(name, strconv.Itoa(n))
	}
}

func (t *taker) span(name string, d time.Duration) {
	if d != 0 {
		t.text(name, d.String())
	}
}

func (t *taker) flag(name string, on bool) {
	if on {
		t.text(name, "true")
	}
}

// path names a file as the configuration would.
func (t *taker) path(name, path string) {
	if path == "" {
		return
	}
	dir, err := filepath.Abs(t.dir)
	if err == nil {
		if full, err := filepath.Abs(path); err == nil {
			if rel, err := filepath.Rel(dir, full); err == nil && filepath.IsLocal(rel) {
				path = rel
			} else {
				path = full
			}
		}
	}
	t.text(name, path)
}

func (t *taker) statuses(name string, all []int) {
	texts := make([]string, len(all))
	for i, n := range all {
		texts[i] = strconv.Itoa(n)
	}
	t.text(name, strings.Join(texts, ", "))
}

func (t *taker) sink(s *rules.SinkSpec) {
	if w := s.Webhook; w != nil {
		t.text("type", "webhook")
		t.secret("webhook.url", w.URL)
		for _, h := range w.Headers {
			t.secret("webhook.headers."+h.Name, h.Value)
		}
		for _, secret := range w.Sign {
			t.secret("webhook.sign", secret)
		}
		t.span("webhook.timeout", w.Timeout)
		t.statuses("webhook.retry_on", w.RetryOn)
		t.statuses("webhook.dead_on", w.DeadOn)
	}
	if n := s.NATS; n != nil {
		t.text("type", "nats")
		t.nats(n)
	}
	t.number("concurrency", s.Concurrency)
	if s.Rate > 0 {
		t.text("rate", strconv.FormatFloat(s.Rate, 'g', -1, 64)+"/s")
	}
	t.span("retry.initial", s.Retry.Initial)
	t.text("retry.multiplier", strconv.FormatFloat(s.Retry.Multiplier, 'g', -1, 64))
	t.span("retry.max", s.Retry.Max)
	t.text("retry.jitter", strconv.FormatFloat(s.Retry.Jitter, 'g', -1, 64))
	t.number("retry.max_attempts", s.Retry.MaxAttempts)
	t.span("retry.max_age", s.Retry.MaxAge)
	t.text("dead_letter", s.DeadLetter)
	if s.Breaker.Off {
		t.text("breaker", "off")
	}
	t.number("breaker.failures", s.Breaker.Failures)
	t.span("breaker.open", s.Breaker.Open)
	t.number("breaker.probes", s.Breaker.Probes)
	t.number("max_owed", s.MaxOwed)
}

func (t *taker) nats(n *rules.NATSSpec) {
	t.secret("nats.url", n.URL)
	t.flag("nats.jetstream", n.JetStream)
	t.text("nats.stream", n.Stream)
	t.flag("nats.request", n.Request)
	if n.Binary {
		t.text("nats.cloudevents", "binary")
	}
	t.secret("nats.user", n.User)
	t.secret("nats.password", n.Password)
	t.secret("nats.token", n.Token)
	t.secret("nats.nkey", n.NKey)
	t.path("nats.creds_file", n.CredsFile)
	if n.TLS != nil {
		t.path("nats.tls.ca_file", n.TLS.CAFile)
		t.path("nats.tls.cert_file", n.TLS.CertFile)
		t.path("nats.tls.key_file", n.TLS.KeyFile)
		t.flag("nats.tls.handshake_first", n.TLS.HandshakeFirst)
	}
	t.text("nats.inbox_prefix", n.InboxPrefix)
	t.span("nats.timeout", n.Timeout)
	t.number("nats.max_pending", n.MaxPending)
}

// settings are what takes effect at a start only. The watched prefixes are among
// them: a reload derives ranges from rules, it does not read keyhook.yaml.
func (t *taker) settings(c *config.Config) {
	for _, endpoint := range c.Etcd.Endpoints {
		t.hidden("etcd.endpoints", endpoint) // may carry a password
	}
	for _, prefix := range c.Etcd.Watch {
		t.text("etcd.watch", strconv.Quote(prefix))
	}
	t.text("etcd.start", c.Etcd.Start.String())
	t.text("etcd.on_gap", string(c.Etcd.OnGap))
	t.text("etcd.username", c.Etcd.Username)
	t.secret("etcd.password", c.Etcd.Password)
	t.path("etcd.tls.ca_file", c.Etcd.TLS.CAFile)
	t.path("etcd.tls.cert_file", c.Etcd.TLS.CertFile)
	t.path("etcd.tls.key_file", c.Etcd.TLS.KeyFile)
	t.text("source", c.Source)
	t.path("checkpoint.disk.dir", c.Checkpoint.Dir)
	t.span("checkpoint.interval", c.Checkpoint.Interval)
	for _, glob := range c.Rules {
		t.path("rules", glob.Pattern)
	}
	t.text("admin.listen", c.Admin.Listen)
	t.secret("admin.token", c.Admin.Token)
	t.span("dead_letters.max_age", c.DeadLetters.MaxAge)
	t.number("dead_letters.max_number", c.DeadLetters.MaxNumber)
	if n := c.DeadLetters.MaxBytes; n != 0 {
		t.text("dead_letters.max_bytes", strconv.FormatInt(n, 10))
	}
	if !c.Metrics.PerRule {
		t.text("metrics.per_rule", "false")
	}
	t.text("log.level", strings.ToLower(c.Log.Level.String()))
	t.text("log.format", string(c.Log.Format))
}
