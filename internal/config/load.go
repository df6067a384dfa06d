package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"keyhook/internal/strictyaml"
)

// file is keyhook.yaml as it is written.
type file struct {
	At         strictyaml.Position   `yaml:",position"`
	Etcd       etcdFile              `yaml:"etcd"`
	Source     strictyaml.At[string] `yaml:"source"`
	Checkpoint struct {
		Disk struct {
			Dir strictyaml.At[string] `yaml:"dir"`
		} `yaml:"disk"`
		Interval strictyaml.At[strictyaml.Duration] `yaml:"interval"`
	} `yaml:"checkpoint"`
	Rules *strictyaml.At[[]strictyaml.At[string]] `yaml:"rules"`
	Admin struct {
		Listen strictyaml.At[string] `yaml:"listen"`
		Token  strictyaml.Secret     `yaml:"token"`
	} `yaml:"admin"`
	DeadLetters struct {
		MaxAge    *strictyaml.Duration `yaml:"max_age"`
		MaxNumber *strictyaml.At[int]  `yaml:"max_number"`
		MaxBytes  *strictyaml.Size     `yaml:"max_bytes"`
	} `yaml:"dead_letters"`
	Metrics struct {
		PerRule *bool `yaml:"per_rule"`
	} `yaml:"metrics"`
	Log struct {
		Level  strictyaml.At[string] `yaml:"level"`
		Format strictyaml.At[string] `yaml:"format"`
	} `yaml:"log"`
}

type etcdFile struct {
	Endpoints *strictyaml.At[[]strictyaml.At[string]] `yaml:"endpoints"`
	Watch     *strictyaml.At[[]string]                `yaml:"watch"`
	Start     startField                              `yaml:"start"`
	OnGap     strictyaml.At[string]                   `yaml:"on_gap"`
	Username  strictyaml.At[string]                   `yaml:"username"`
	Password  secretField                             `yaml:"password"`
	TLS       struct {
		CAFile   strictyaml.At[string] `yaml:"ca_file"`
		CertFile strictyaml.At[string] `yaml:"cert_file"`
		KeyFile  strictyaml.At[string] `yaml:"key_file"`
		At       strictyaml.Position   `yaml:",position"`
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
		p := strictyaml.Position{Path: path}.Problemf("cannot read the configuration: %s", reason(err))
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
