// Command deployfacts tells, as JSON, what the files in deploy say, as the
// libraries read them that the tools themselves are made of: BuildKit's parser
// and linter for the Dockerfile, compose-go for compose.yaml, Prometheus' parser
// for expressions. The tests in deploy hold the facts to what they should be.
//
//	deployfacts dockerfile FILE   the stages of a Dockerfile; what its linter finds is an error
//	deployfacts context DIR       the files that .dockerignore lets into a build
//	deployfacts compose FILE      the project, with everything filled in
//	deployfacts promql            what each expression of a JSON array on stdin selects
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	facts, err := read(context.Background(), os.Args[1:], os.Stdin)
	if err == nil {
		err = json.NewEncoder(os.Stdout).Encode(facts)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "deployfacts: %v\n", err)
		os.Exit(1)
	}
}

// read returns the facts that the command line asks for.
func read(ctx context.Context, args []string, stdin io.Reader) (any, error) {
	command, path := "", ""
	switch len(args) {
	case 1:
		command = args[0]
	case 2:
		command, path = args[0], args[1]
	}
	switch {
	case command == "dockerfile" && path != "":
		return dockerfile(path)
	case command == "context" && path != "":
		return buildContext(path)
	case command == "compose" && path != "":
		return compose(ctx, path)
	case command == "promql" && len(args) == 1:
		var expressions []string
		if err := json.NewDecoder(stdin).Decode(&expressions); err != nil {
			return nil, fmt.Errorf("stdin is no JSON array of expressions: %w", err)
		}
		return promql(expressions)
	default:
		return nil, errors.New("usage: deployfacts dockerfile FILE | context DIR | compose FILE | promql")
	}
}
