package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"keyhook/internal/strictyaml"
)

// file is keyhook.yaml as it is written.
type file struct {
	At strictyaml.Position `yaml:",position"`
	// Which etcd is watched, and what of it.
	Etcd etcdFile `yaml:"etcd"`
	// Names this etcd in delivery ids and CloudEvents. Changing it changes the
	// ids.
	Source strictyaml.At[string] `yaml:"source" unset:"/etcd/ and the cluster's id"`
	// Where progress and what is owed are kept.
	Checkpoint struct {
		// A directory of this machine.
		Disk struct {
			// Mode 0700; one process at a time, held by a lock.
			Dir strictyaml.At[string] `yaml:"dir" default:"./keyhook-data"`
		} `yaml:"disk"`
		// How long something waits for a commit at most; 1ms to 2s.
		Interval strictyaml.At[strictyaml.Duration] `yaml:"interval" default:"100ms"`
	} `yaml:"checkpoint"`
	// Files or globs (a glob passes over `*_test.yaml`); reloaded within a
	// second of a change and on SIGHUP, all or nothing.
	Rules *strictyaml.At[[]strictyaml.At[string]] `yaml:"rules" default:"[rules/*.yaml]"`
	// Where `/healthz`, `/readyz`, `/metrics` and the status are served.
	Admin struct {
		// Port 0 takes any free one.
		Listen strictyaml.At[string] `yaml:"listen" default:"127.0.0.1:8585"`
		// Asked for by all pages but `/healthz` and `/readyz`.
		Token strictyaml.Secret `yaml:"token"`
	} `yaml:"admin"`
	// How many dead letters are kept. Beyond it the oldest go, counted in
	// `keyhook_dead_letters_expired_total` and logged; 0: no bound.
	DeadLetters struct {
		// Since the delivery was given up.
		MaxAge *strictyaml.Duration `yaml:"max_age" unset:"no bound"`
		// Of all sinks together.
		MaxNumber *strictyaml.At[int] `yaml:"max_number" default:"100000" min:"0"`
		// Of all sinks together.
		MaxBytes *strictyaml.Size `yaml:"max_bytes" default:"1GiB"`
	} `yaml:"dead_letters"`
	// Which metrics are kept.
	Metrics struct {
		// `false` switches off the series for each rule, where there are
		// thousands.
		PerRule *bool `yaml:"per_rule" default:"true"`
	} `yaml:"metrics"`
	// What is logged, and how.
	Log struct {
		// The least that is logged.
		Level strictyaml.At[string] `yaml:"level" default:"info" enum:"debug|info|warn|error"`
		// How a line is written.
		Format strictyaml.At[string] `yaml:"format" default:"text" enum:"text|json"`
	} `yaml:"log"`
}

type etcdFile struct {
	// The members of the cluster; `https://` with `tls`.
	Endpoints *strictyaml.At[[]strictyaml.At[string]] `yaml:"endpoints" default:"[http://127.0.0.1:2379]"`
	// Prefixes to watch; overlapping ones are merged. With role-based access
	// in etcd the user needs READ on each.
	Watch *strictyaml.At[[]string] `yaml:"watch" unset:"derived from the rules' keys, at most 16 ranges"`
	// Where a range begins that was never watched; a revision is the first
	// that is delivered.
	Start startField `yaml:"start" default:"now"`
	// What to do when history was compacted or rolled back while away.
	OnGap strictyaml.At[string] `yaml:"on_gap" default:"repair" enum:"repair|halt"`
	// etcd's own authentication.
	Username strictyaml.At[string] `yaml:"username"`
	// Of the user.
	Password secretField `yaml:"password"`
	// For `https://` endpoints; all files are PEM.
	TLS struct {
		// The authorities to trust.
		CAFile strictyaml.At[string] `yaml:"ca_file" unset:"the system's"`
		// The client's certificate.
		CertFile strictyaml.At[string] `yaml:"cert_file"`
		// The client's key.
		KeyFile strictyaml.At[string] `yaml:"key_file"`
		At      strictyaml.Position   `yaml:",position"`
	} `yaml:"tls"`
}

// secretField is a secret that knows its place, also when it could not be read.
type secretField struct {
	Value    strictyaml.Secret
	Position strictyaml.Position
}

// DecodeYAML implements [strictyaml.Decoder].
func (s *secretField) DecodeYAML(n *strictyaml.Node) {
	s.Position = n.Position()
	n.Decode(&s.Value)
}

// Shape implements [strictyaml.Shaped].
func (*secretField) Shape() []any { return []any{strictyaml.Secret{}} }

// FileType returns the type that keyhook.yaml is decoded into, for the reference
// of its fields.
func FileType() reflect.Type { return reflect.TypeFor[file]() }

// Load reads the configuration at path, with secrets from the environment of
// the process.
//
// With problems it still returns what could be understood, so that the rules
// can be looked at in the same go; nothing must be started from it.
func Load(path string) (*Config, strictyaml.Problems) {
	return LoadWith(path, strictyaml.Environment{})
}

// LoadWith is as [Load], with secrets from env.
func LoadWith(path string, env strictyaml.Environment) (*Config, strictyaml.Problems) {
	data, err := read(path)
	if err != nil {
		p := beginning(path).Problemf("cannot read the configuration: %s", reason(err))
		if errors.Is(err, fs.ErrNotExist) {
			p = p.WithHint("name the file with -c FILE; `keyhook dev` runs an example that needs none")
		}
		return nil, strictyaml.Problems{p}
	}
	var f file
	problems := env.Decode(path, data, &f)
	if f.At.Line == 0 {
		return nil, problems // not YAML, or nothing: there is nothing to understand
	}
	r := resolver{path: path, problems: problems}
	c := r.config(&f)
	r.problems.Sort()
	r.warnings.Sort()
	c.Warnings = r.warnings
	return c, r.problems
}

// read returns the file at path, or one byte more than is ever accepted of it.
func read(path string) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	return io.ReadAll(io.LimitReader(f, strictyaml.MaxFile+1))
}

// beginning is where a file is wrong of which nothing was read: every problem has
// a line and a column, for programs that look for them.
func beginning(path string) strictyaml.Position {
	return strictyaml.Position{Path: path, Line: 1, Column: 1}
}

// reason is err without the path, which stands in front of it already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

// Literal returns the glob that matches path alone.
func Literal(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// globBeside returns the glob that one in the file at path means.
func globBeside(path, glob string) string {
	if filepath.IsAbs(glob) {
		return glob
	}
	return filepath.Join(Literal(filepath.Dir(path)), glob)
}

// beside returns the path that a relative one in the file at path means.
func beside(path, relative string) string {
	if filepath.IsAbs(relative) {
		return relative
	}
	return filepath.Join(filepath.Dir(path), relative)
}
