package cli

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"keyhook/internal/schema"
	"keyhook/internal/strictyaml"
)

func schemaCommand() *cobra.Command {
	schemas := map[string]func() string{"config": schema.Config, "rules": schema.Rules, "test": schema.Test}
	names := slices.Sorted(maps.Keys(schemas))
	cmd := &cobra.Command{
		Use:   "schema [config | rules | test]",
		Short: "Print the JSON Schema of keyhook.yaml, of rule files, or of tests of rules",
		Long: `Prints the JSON Schema (draft 2020-12) of rule files; with config, of
keyhook.yaml, with test, of *_test.yaml. Editors check and complete by it while you type: with the YAML
language server (VS Code, Neovim, JetBrains and others) write

  keyhook schema rules > rules.schema.json

and as the first line of a rule file

  # yaml-language-server: $schema=rules.schema.json`,
		ValidArgs: names,
		Args: func(_ *cobra.Command, args []string) error {
			switch {
			case len(args) > 1:
				return &usageError{message: fmt.Sprintf("keyhook schema takes one argument, found %q", args), hint: "config, rules or test"}
			case len(args) == 1 && schemas[args[0]] == nil:
				return &usageError{message: fmt.Sprintf("there is no schema %q", args[0]), hint: strictyaml.DidYouMean(args[0], names)}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			what := "rules"
			if len(args) == 1 {
				what = args[0]
			}
			_, err := fmt.Fprint(cmd.OutOrStdout(), schemas[what]())
			return err
		},
	}
	unreadConfigFlag(cmd)
	return cmd
}
