package cli

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/config"
)

// deskCommand is what the commands have in common that ask the running process,
// or work on its data directory.
type deskCommand struct {
	p      *Process
	config string
	format output
}

func (d *deskCommand) addFlags(cmd *cobra.Command) {
	configFlag(cmd, &d.config, defaultConfig, "the configuration, which names the data directory")
	outputFlag(cmd, &d.format)
}

// load reads the configuration, and makes a logger that tells of errors only.
func (d *deskCommand) load() (*config.Config, *slog.Logger, error) {
	cfg, problems := config.Load(d.config)
	if err := problems.Err(); err != nil {
		return nil, nil, err
	}
	quiet := cfg.Log
	quiet.Level = max(quiet.Level, slog.LevelError)
	log, err := newLogger(d.p.Stderr, quiet)
	return cfg, log, err
}

// open calls fn with the way to the backlog of the configuration.
func (d *deskCommand) open(ctx context.Context, fn func(context.Context, *app.Desk) error) (err error) {
	cfg, log, err := d.load()
	if err != nil {
		return err
	}
	desk, err := app.Reach(ctx, cfg, log)
	if err != nil {
		return interrupted(ctx, err)
	}
	defer func() { err = errors.Join(err, desk.Close()) }()
	return interrupted(ctx, fn(ctx, desk))
}

// interrupted names the signal where it is what ended a command.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return context.Cause(ctx)
	}
	return err
}

// groupCommand returns a command that only holds others.
func groupCommand(p *Process, use, short, long string, commands ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long, Args: unknownCommand,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.Stderr)
			return errors.Join(cmd.Help(), &usageError{message: cmd.CommandPath() + " needs a command"})
		},
	}
	cmd.AddCommand(commands...)
	return cmd
}
