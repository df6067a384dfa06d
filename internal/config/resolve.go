package config

import (
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"keyhook/internal/strictyaml"
)

const (
	// minInterval keeps commits from being all that a disk does, maxInterval
	// what a crash repeats bounded, and well below the 5 s after which sending
	// stops.
	minInterval = time.Millisecond
	maxInterval = 2 * time.Second

	maxSource = 256
)

// resolver turns what is written into what is meant.
type resolver struct {
	path               string
	problems, warnings strictyaml.Problems
}

// problem reports a value, unless it has already been found to be none: it has
// no place then, or there is a problem at it.
func (r *resolver) problem(at strictyaml.Position, hint, format string, args ...any) {
	if at.Line == 0 {
		return
	}
	if slices.ContainsFunc(r.problems, func(p strictyaml.Problem) bool { return p.Position() == at }) {
		return
	}
	r.problems.Add(at, hint, format, args...)
}

func (r *resolver) warn(at strictyaml.Position, hint, format string, args ...any) {
	r.warnings.Add(at, hint, format, args...)
}

func (r *resolver) config(f *file) *Config {
	c := &Config{
		Path:   r.path,
		Source: r.source(f.Source),
		Rules:  r.globs(f.Rules),
		Checkpoint: Checkpoint{
			Dir:      beside(r.path, r.text(f.Checkpoint.Disk.Dir, defaultDir)),
			Interval: defaultInterval,
		},
		Admin: Admin{
			Listen: r.listen(f.Admin.Listen, f.Admin.Token.IsSet()),
			Token:  f.Admin.Token,
		},
		DeadLetters: r.deadLetters(f),
		Metrics:     Metrics{PerRule: f.Metrics.PerRule == nil || *f.Metrics.PerRule},
		Log: Log{
			Level:  r.level(f.Log.Level),
			Format: oneOf(r, f.Log.Format, "log format", Text, JSON),
		},
	}
	if at := f.Checkpoint.Interval; at.Position.Line > 0 {
		if c.Checkpoint.Interval = at.Value.Std(); c.Checkpoint.Interval < minInterval || c.Checkpoint.Interval > maxInterval {
			r.problem(at.Position, "100ms suits most: it bounds what a crash delivers twice",
				"the interval must be between %s and %s", minInterval, maxInterval)
		}
	}
	r.etcd(&f.Etcd, &c.Etcd)
	return c
}

func (r *resolver) deadLetters(f *file) DeadLetters {
	d := DeadLetters{MaxNumber: defaultMaxLetters, MaxBytes: defaultMaxLetterBytes}
	if age := f.DeadLetters.MaxAge; age != nil {
		d.MaxAge = age.Std()
	}
	if n := f.DeadLetters.MaxNumber; n != nil && n.IsSet() {
		if d.MaxNumber = n.Value; n.Value < 0 {
			r.problem(n.Position, "0 means no bound", "max_number must not be negative")
		}
	}
	if size := f.DeadLetters.MaxBytes; size != nil {
		d.MaxBytes = size.Bytes()
	}
	return d
}

func (r *resolver) etcd(f *etcdFile, e *Etcd) {
	e.Endpoints = r.endpoints(f.Endpoints)
	e.Start = f.Start.value
	e.OnGap = oneOf(r, f.OnGap, "on_gap", Repair, Halt)
	if f.Watch != nil {
		e.Watch = f.Watch.Value
		if len(e.Watch) == 0 {
			r.problem(f.Watch.Position, "remove the field to watch what the rules need", "nothing to watch")
		}
	}
	r.credentials(f, e)
	r.tls(f, e)
}

func (r *resolver) credentials(f *etcdFile, e *Etcd) {
	e.Username, e.Password = f.Username.Value, f.Password.Value
	named, secret := f.Username.Position.Line > 0, f.Password.Position.Line > 0
	switch {
	case named && e.Username == "":
		r.problem(f.Username.Position, "", "the username is empty")
	case named && !secret:
		r.problem(f.Username.Position, "add password: {env: NAME}; a client certificate needs no username",
			"a username without a password")
	case secret && !named:
		r.problem(f.Password.Position, "add username", "a password without a username")
	}
}

// endpoints checks what is known without the network: the shape, and that all
// of them are of one kind.
func (r *resolver) endpoints(f *strictyaml.At[[]strictyaml.At[string]]) []string {
	if f == nil {
		return []string{defaultEndpoint}
	}
	if len(f.Value) == 0 {
		r.problem(f.Position, "name at least one, such as "+defaultEndpoint, "no endpoints")
	}
	var endpoints []string
	first := ""
	for _, e := range f.Value {
		scheme, problem := checkEndpoint(e.Value)
		switch {
		case strings.Contains(e.Value, "@"): // it may hold a password, and is not repeated
			r.problem(e.Position, "use username and password", "an endpoint holds a user")
			continue
		case problem != "":
			r.problem(e.Position, "write it as http://HOST:PORT or https://HOST:PORT", "endpoint %q %s", e.Value, problem)
			continue
		case slices.Contains(endpoints, e.Value):
			r.problem(e.Position, "", "endpoint %q is named twice", e.Value)
			continue
		case first != "" && scheme != first:
			r.problem(e.Position, "", "endpoints are of different schemes: %s and %s", first, scheme)
		}
		first = scheme
		endpoints = append(endpoints, e.Value)
	}
	return endpoints
}

func checkEndpoint(s string) (scheme, problem string) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme == "":
		return "", "is not a URL"
	case u.Scheme == "unix" || u.Scheme == "unixs":
		if u.Host+u.Path+u.Opaque == "" {
			return "", "names no socket"
		}
		return u.Scheme, ""
	case u.Opaque != "":
		return "", "is not a URL"
	case u.Scheme != "http" && u.Scheme != "https":
		return "", "has the scheme " + u.Scheme
	case u.Hostname() == "":
		return "", "names no host"
	case u.Port() == "":
		return "", "names no port"
	case (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "":
		return "", "has more than a host and a port"
	}
	return u.Scheme, ""
}

// tls checks that the files hold what they should.
func (r *resolver) tls(f *etcdFile, e *Etcd) {
	t := &f.TLS
	if t.At.Line == 0 {
		return
	}
	if slices.ContainsFunc(e.Endpoints, func(s string) bool { return strings.HasPrefix(s, "http://") }) {
		r.problem(t.At, "write the endpoints as https://HOST:PORT", "tls is set, and the endpoints do not use it")
	}
	e.TLS = TLS{
		CAFile:   r.existing(t.CAFile),
		CertFile: r.existing(t.CertFile),
		KeyFile:  r.existing(t.KeyFile),
	}
	hasCert, hasKey := t.CertFile.Position.Line > 0, t.KeyFile.Position.Line > 0
	switch {
	case hasCert && !hasKey:
		r.problem(t.CertFile.Position, "add key_file", "a cert_file without a key_file")
	case hasKey && !hasCert:
		r.problem(t.KeyFile.Position, "add cert_file", "a key_file without a cert_file")
	case e.TLS.CertFile != "" && e.TLS.KeyFile != "":
		if _, err := tls.LoadX509KeyPair(e.TLS.CertFile, e.TLS.KeyFile); err != nil {
			r.problem(t.CertFile.Position, "", "the certificate and the key cannot be used: %s", err)
		}
	}
	if e.TLS.CAFile != "" {
		if pem, err := read(e.TLS.CAFile); err == nil && !x509.NewCertPool().AppendCertsFromPEM(pem) {
			r.problem(t.CAFile.Position, "it must hold PEM blocks of type CERTIFICATE", "%s holds no certificate", e.TLS.CAFile)
		}
	}
}

// existing returns the path of a file that can be read, "" after a problem.
func (r *resolver) existing(at strictyaml.At[string]) string {
	if at.Position.Line == 0 {
		return ""
	}
	path := beside(r.path, at.Value)
	if _, err := read(path); err != nil {
		r.problem(at.Position, "", "cannot read %s: %s", path, reason(err))
		return ""
	}
	return path
}

// source must do as the source of a CloudEvent, a URI reference.
func (r *resolver) source(at strictyaml.At[string]) string {
	if at.Position.Line == 0 {
		return ""
	}
	const hint = "write a path or a URI that names this etcd, such as /etcd/prod"
	u, err := url.Parse(at.Value)
	switch {
	case at.Value == "":
		r.problem(at.Position, hint, "the source is empty")
	case len(at.Value) > maxSource:
		r.problem(at.Position, hint, "the source is longer than %d bytes", maxSource)
	case err != nil || u.String() != at.Value:
		r.problem(at.Position, hint, "the source %q is not a URI reference", at.Value)
	}
	return at.Value
}

func (r *resolver) globs(f *strictyaml.At[[]strictyaml.At[string]]) []Glob {
	if f == nil {
		return []Glob{{Pattern: globBeside(r.path, defaultRules), Position: strictyaml.Position{Path: r.path, Line: 1, Column: 1}}}
	}
	if len(f.Value) == 0 {
		r.problem(f.Position, "name files or globs, such as "+defaultRules, "no rules")
	}
	globs := make([]Glob, 0, len(f.Value))
	for _, at := range f.Value {
		pattern := globBeside(r.path, at.Value)
		if _, err := filepath.Match(pattern, ""); err != nil || at.Value == "" {
			r.problem(at.Position, "* matches within a file name, ? one character, [a-z] one of several", "%q is not a glob", at.Value)
			continue
		}
		globs = append(globs, Glob{Pattern: pattern, Position: at.Position})
	}
	return globs
}

func (r *resolver) listen(at strictyaml.At[string], token bool) string {
	if at.Position.Line == 0 {
		return defaultListen
	}
	host, port, err := net.SplitHostPort(at.Value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err != nil {
		r.problem(at.Position, "write HOST:PORT, such as "+defaultListen, "%q is not an address to listen on", at.Value)
		return at.Value
	}
	if ip := net.ParseIP(host); !token && host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		r.warn(at.Position, "add token: {file: PATH}, or listen on 127.0.0.1",
			"the status is served to the network without a token")
	}
	return at.Value
}

func (r *resolver) level(at strictyaml.At[string]) slog.Level {
	levels := map[string]slog.Level{
		"debug": slog.LevelDebug, "info": slog.LevelInfo, "warn": slog.LevelWarn, "error": slog.LevelError,
	}
	return levels[oneOf(r, at, "log level", "info", "debug", "warn", "error")]
}

// text returns a value that must not be empty, or its default.
func (r *resolver) text(at strictyaml.At[string], def string) string {
	if at.Position.Line == 0 {
		return def
	}
	if at.Value == "" {
		r.problem(at.Position, "remove the field for the default, "+def, "the value is empty")
	}
	return at.Value
}

// oneOf returns the value if it is known; the first of the known is the default.
func oneOf[T ~string](r *resolver, at strictyaml.At[string], what string, known ...T) T {
	if at.Position.Line == 0 {
		return known[0]
	}
	if v := T(at.Value); slices.Contains(known, v) {
		return v
	}
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	r.problem(at.Position, strictyaml.DidYouMean(at.Value, names), "unknown %s %q", what, at.Value)
	return known[0]
}
