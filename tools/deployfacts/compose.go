package main

import (
	"context"

	"github.com/compose-spec/compose-go/v2/cli"
)

// compose returns the project at path as `docker compose config` shows it. It
// is checked against the specification's schema, and for consistency. Of the
// environment nothing is known: a variable without a default is an error.
func compose(ctx context.Context, path string) (any, error) {
	options, err := cli.NewProjectOptions([]string{path}, cli.WithConsistency(true), cli.WithNormalization(true), cli.WithResolvedPaths(false))
	if err != nil {
		return nil, err
	}
	return options.LoadProject(ctx)
}
