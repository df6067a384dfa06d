package cli

import (
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"

	"keyhook/internal/cli/dev"
	"keyhook/internal/config"
	"keyhook/internal/devserver"
)

func devCommand(p *Process) *cobra.Command {
	var (
		path, story   string
		once, verbose bool
		timeout       time.Duration
	)
	cmd := &cobra.Command{
		Use:   "dev",
		Short: "Try keyhook with nothing installed: etcd, NATS and a webhook inbox in one process",
		Long: `Runs an etcd, a NATS server, a webhook inbox and keyhook in one process, plays a
short story of a Postgres failover, and prints each delivery as it arrives. It
then goes on until it is interrupted, with an etcd to put keys into and rules to
edit.

Without -c it plays the quickstart. With -c it plays that configuration against
servers of its own: every webhook goes to the inbox and every NATS message to the
NATS server, whatever the url of its sink says. JetStream sinks find the streams
that they need. If there is a story.yaml beside the configuration, it is played.

With --once it ends after the story: with 0 if all that it owes has arrived, and
with 1 if something has not, if there is a dead letter, if another rule matched
than the story expects, or if the story owes nothing to anybody, because the
configuration watches other keys or no rule matches: then nothing has been tried.`,
		Args: noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !devserver.Included {
				return fmt.Errorf("dev: %w", devserver.ErrLeftOut)
			}
			level := slog.LevelWarn
			if verbose {
				level = slog.LevelDebug
			}
			log, err := newLogger(p.Stderr, config.Log{Level: level, Format: config.Text})
			if err != nil {
				return err
			}
			defer adoptStandardLog(log)()
			return dev.Run(cmd.Context(), dev.Options{
				Config: path, Story: story, Once: once, Timeout: timeout,
				Out: cmd.OutOrStdout(), Logger: log, Reload: p.Reload, Version: thisBuild().Version,
			})
		},
	}
	configFlag(cmd, &path, "", "a configuration to play instead of the quickstart")
	cmd.Flags().StringVar(&story, "story", "", "a story to play instead of the one beside the configuration")
	cmd.Flags().BoolVar(&once, "once", false, "end after the story")
	cmd.Flags().DurationVar(&timeout, "timeout", 30*time.Second, "how long the story waits, in all, for what it is owed")
	cmd.Flags().BoolVarP(&verbose, "verbose", "v", false, "also print keyhook's own log")
	return cmd
}
