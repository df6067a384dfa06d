package config

import (
	"log/slog"
	"time"

	"keyhook/internal/strictyaml"
	"keyhook/watch"
)

// Config is a keyhook.yaml, with defaults in place of what it leaves out.
type Config struct {
	Path        string // as it was given
	Etcd        Etcd
	Source      string // names the etcd in ids; empty: after the id of its cluster
	Checkpoint  Checkpoint
	Rules       []Glob
	Admin       Admin
	DeadLetters DeadLetters
	Metrics     Metrics
	Log         Log

	// Warnings are about what works and is probably not meant.
	Warnings strictyaml.Problems
}

// Etcd says which etcd to watch, and what of it.
type Etcd struct {
	Endpoints []string    // default http://127.0.0.1:2379
	Watch     []string    // prefixes; nil: derived from the rules' keys
	Start     watch.Start // of a range that was never watched; default now
	OnGap     OnGap       // default repair
	Username  string
	Password  strictyaml.Secret
	TLS       TLS
}

// TLS names the PEM files of a client; all are optional.
type TLS struct {
	CAFile, CertFile, KeyFile string
}

// OnGap says what follows when etcd no longer has the history that is needed.
type OnGap string

// What a gap leads to.
const (
	Repair OnGap = "repair"
	Halt   OnGap = "halt"
)

// Checkpoint says where progress is kept.
type Checkpoint struct {
	Dir      string        // default keyhook-data
	Interval time.Duration // between two commits; default 100 ms
}

// Admin says where health, metrics and status are served.
type Admin struct {
	Listen string            // default 127.0.0.1:8585
	Token  strictyaml.Secret // not set: none is asked for
}

// DeadLetters bounds the dead letters that are kept. What is beyond a bound
// goes, the oldest first; 0 is no bound.
type DeadLetters struct {
	MaxAge    time.Duration // since they failed; default 0
	MaxNumber int           // default 100,000
	MaxBytes  int64         // of their events and messages; default 1 GiB
}

// Metrics says which metrics are kept.
type Metrics struct {
	// PerRule keeps a series for each rule; default true. Without it the sums
	// stay, which is what a set of thousands of rules wants.
	PerRule bool
}

// Log says what is logged, and how.
type Log struct {
	Level  slog.Level // default info
	Format Format     // default text
}

// Format is how a log line is written.
type Format string

// Formats.
const (
	Text Format = "text"
	JSON Format = "json"
)

// Glob is a pattern for rule files, with its place.
type Glob struct {
	Pattern  string // relative to the working directory, or absolute
	Position strictyaml.Position
}

const (
	defaultEndpoint = "http://127.0.0.1:2379"
	defaultDir      = "keyhook-data"
	defaultInterval = 100 * time.Millisecond
	defaultRules    = "rules/*.yaml"
	defaultListen   = "127.0.0.1:8585"

	defaultMaxLetters     = 100_000
	defaultMaxLetterBytes = 1 << 30
)
