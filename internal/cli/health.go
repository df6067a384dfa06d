package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/config"
)

func healthCommand() *cobra.Command {
	var path string
	var ready bool
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask the running process whether it is alive, or ready",
		Long: `Asks the running process for /healthz or, with --ready, for /readyz, and prints
what it answers. The exit code is 0 if it is alive or ready, and 1 if it is not
or does not answer.

It is for the health checks of containers, which may hold nothing but this
binary. It finds the process through the data directory, or else through
admin.listen, and needs no token.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			// What is wrong with the configuration is the running process's
			// business: a health check may lack the secrets of its environment.
			cfg, problems := config.Load(path)
			if cfg == nil {
				return problems
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
			defer cancel()
			answer, err := app.Health(ctx, cfg, ready)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(cmd.OutOrStdout(), answer)
			return err
		},
	}
	configFlag(cmd, &path, defaultConfig, "the configuration")
	cmd.Flags().BoolVar(&ready, "ready", false, "ask whether every later change will be delivered")
	cmd.Flags().DurationVar(&timeout, "timeout", 5*time.Second, "how long an answer may take")
	return cmd
}
