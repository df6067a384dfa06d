package cli

import (
	"io"
	standard "log"
	"log/slog"

	"github.com/spf13/cobra"

	"keyhook/internal/app"
	"keyhook/internal/config"
	"keyhook/internal/telemetry"
)

const defaultConfig = "keyhook.yaml"

func runCommand(p *Process) *cobra.Command {
	var path string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Watch etcd and deliver what the rules match",
		Long: `Watches etcd and delivers what the rules match, until it is told to stop.

SIGTERM and SIGINT stop it cleanly: nothing more is read, what is in flight may
finish, progress is saved, and the exit code is 0. A second signal ends it at
once with 1; what was in flight is then delivered again at the next start.
SIGHUP loads the rules anew, as a change of their files does.

Where etcd cannot be reached, or refuses, it stays up and tries on;
/readyz on admin.listen says why it is not ready.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			plan, err := app.Load(path)
			if err != nil {
				return err
			}
			log, err := newLogger(p.Stderr, plan.Config.Log)
			if err != nil {
				return err
			}
			defer adoptStandardLog(log)()
			app.LogWarnings(log, plan.Warnings)
			tuneRuntime()
			return app.Run(cmd.Context(), app.Options{
				Plan: plan, Logger: log, Version: thisBuild().Version, Reload: p.Reload,
			})
		},
	}
	configFlag(cmd, &path, defaultConfig, "the configuration")
	return cmd
}

func newLogger(w io.Writer, c config.Log) (*slog.Logger, error) {
	return telemetry.NewLogger(w, c.Level, string(c.Format))
}

// adoptStandardLog takes in what the standard library logs by itself, such as
// net/http about receivers that break the protocol: in the format of the rest,
// and at debug, because it quotes what others sent. It returns what undoes it.
func adoptStandardLog(log *slog.Logger) (undo func()) {
	output, flags := standard.Writer(), standard.Flags()
	standard.SetFlags(0)
	standard.SetOutput(slog.NewLogLogger(log.Handler(), slog.LevelDebug).Writer())
	return func() {
		standard.SetOutput(output)
		standard.SetFlags(flags)
	}
}
