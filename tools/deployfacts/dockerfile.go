package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"
)

// stage is one FROM of a Dockerfile and what follows it.
type stage struct {
	Name        string            `json:"name"`
	Base        string            `json:"base"`
	Runs        []string          `json:"runs"` // shell commands
	Copies      []copied          `json:"copies"`
	Env         map[string]string `json:"env"`
	User        string            `json:"user"`
	Workdir     string            `json:"workdir"`
	Volumes     []string          `json:"volumes"`
	Exposed     []string          `json:"exposed"`
	Entrypoint  []string          `json:"entrypoint"` // empty in its shell form, as Cmd
	Cmd         []string          `json:"cmd"`
	Healthcheck *healthcheck      `json:"healthcheck"`
}

type copied struct {
	From    string   `json:"from"` // a stage; empty: the build's context
	Sources []string `json:"sources"`
	Dest    string   `json:"dest"`
	Chown   string   `json:"chown"`
}

type healthcheck struct {
	Test     []string `json:"test"`
	Interval float64  `json:"interval_seconds"`
	Timeout  float64  `json:"timeout_seconds"`
	Start    float64  `json:"start_period_seconds"`
	Retries  int      `json:"retries"`
}

func dockerfile(path string) ([]stage, error) {
	source, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	file, err := parser.Parse(bytes.NewReader(source))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	var found []error
	for _, w := range file.Warnings {
		found = append(found, fmt.Errorf("%s: %s", path, w.Short))
	}
	lint := linter.New(&linter.Config{Warn: func(rule, description, _, message string, at []parser.Range) {
		line := 0
		if len(at) > 0 {
			line = at[0].Start.Line
		}
		found = append(found, fmt.Errorf("%s:%d: %s: %s (%s)", path, line, rule, message, description))
	}})
	parsed, _, err := instructions.Parse(file.AST, lint)
	if err := errors.Join(append(found, err)...); err != nil {
		return nil, err
	}
	stages := make([]stage, 0, len(parsed))
	for _, p := range parsed {
		s := stage{Name: p.Name, Base: p.BaseName, Env: map[string]string{}}
		for _, c := range p.Commands {
			s.add(c)
		}
		stages = append(stages, s)
	}
	return stages, nil
}

func (s *stage) add(command instructions.Command) {
	switch c := command.(type) {
	case *instructions.RunCommand:
		s.Runs = append(s.Runs, c.CmdLine...)
	case *instructions.CopyCommand:
		s.Copies = append(s.Copies, copied{From: c.From, Sources: c.SourcePaths, Dest: c.DestPath, Chown: c.Chown})
	case *instructions.EnvCommand:
		for _, e := range c.Env {
			s.Env[e.Key] = e.Value
		}
	case *instructions.UserCommand:
		s.User = c.User
	case *instructions.WorkdirCommand:
		s.Workdir = c.Path
	case *instructions.VolumeCommand:
		s.Volumes = append(s.Volumes, c.Volumes...)
	case *instructions.ExposeCommand:
		s.Exposed = append(s.Exposed, c.Ports...)
	case *instructions.EntrypointCommand:
		s.Entrypoint = exec(c.ShellDependantCmdLine)
	case *instructions.CmdCommand:
		s.Cmd = exec(c.ShellDependantCmdLine)
	case *instructions.HealthCheckCommand:
		s.Healthcheck = &healthcheck{
			Test: c.Health.Test, Interval: c.Health.Interval.Seconds(), Timeout: c.Health.Timeout.Seconds(),
			Start: c.Health.StartPeriod.Seconds(), Retries: c.Health.Retries,
		}
	}
}

// exec returns the words of a command that no shell reads.
func exec(c instructions.ShellDependantCmdLine) []string {
	if c.PrependShell {
		return nil
	}
	return c.CmdLine
}

// buildContext lists the files that Docker sends to a build of dir.
func buildContext(dir string) ([]string, error) {
	ignore, err := os.Open(filepath.Join(dir, ".dockerignore"))
	if err != nil {
		return nil, err
	}
	patterns, err := ignorefile.ReadAll(ignore)
	err = errors.Join(err, ignore.Close())
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf(".dockerignore: %w", err)
	}
	var files []string
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			if err == nil && entry.Name() == ".git" {
				return fs.SkipDir
			}
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		ignored, err := matcher.MatchesOrParentMatches(name)
		if err == nil && !ignored {
			files = append(files, name)
		}
		return err
	})
	return files, err
}
