package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"keyhook/internal/hint"
	"keyhook/internal/strictyaml"
)

// The codes with which keyhook ends.
const (
	exitFine   = 0
	exitFailed = 1
	exitUsage  = 2
)

// Process is what a command uses of the process it runs in.
type Process struct {
	Args           []string // without the name of the program
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// StdinTerminal and StderrTerminal say whether a person is at the other end.
	StdinTerminal, StderrTerminal bool
	// Stop ends a command cleanly at the first signal, at once at the second.
	Stop <-chan os.Signal
	// Reload reads the rules again.
	Reload <-chan os.Signal
}

// Main runs the command line of this process and returns its exit code.
func Main() int {
	stop := make(chan os.Signal, 2)
	signal.Notify(stop, syscall.SIGINT, syscall.SIGTERM)
	defer signal.Stop(stop)
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, syscall.SIGHUP)
	defer signal.Stop(reload)

	return Run(Process{
		Args:   os.Args[1:],
		Stdin:  os.Stdin,
		Stdout: os.Stdout,
		Stderr: os.Stderr,

		StdinTerminal:  term.IsTerminal(int(os.Stdin.Fd())),
		StderrTerminal: term.IsTerminal(int(os.Stderr.Fd())),

		Stop:   stop,
		Reload: reload,
	})
}

// lastChance is for a stop that is nearly done at the second signal: timeout(1)
// and some supervisors send each signal twice.
const lastChance = 100 * time.Millisecond

// Run runs one command line and returns its exit code. It waits for everything
// that the command has started, unless a second signal comes.
func Run(p Process) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)

	done := make(chan error, 1)
	go func() { done <- command(&p).ExecuteContext(ctx) }()

	stop := p.Stop
	for signals := 0; ; {
		select {
		case err := <-done:
			return report(p.Stderr, err)
		case s := <-stop:
			if signals++; signals > 1 {
				select {
				case err := <-done:
					return report(p.Stderr, err)
				case <-time.After(lastChance):
				}
				fmt.Fprintf(p.Stderr, "keyhook: stopped at once by a second signal (%s); what was in flight will be delivered again\n", s)
				return exitFailed
			}
			cancel(fmt.Errorf("stopped by a signal (%s)", s))
		}
	}
}

// command returns the tree of commands.
func command(p *Process) *cobra.Command {
	root := &cobra.Command{
		Use:   "keyhook",
		Short: "etcd changes, through CEL rules, to webhooks and NATS: nothing lost, each key in order",
		Long: `keyhook watches etcd, evaluates CEL rules on every change of a key, and delivers
what matches to webhooks and NATS. It resumes where it stopped, retries, and keeps what it
could not deliver.

Try it, with nothing installed:   keyhook dev
Then write a keyhook.yaml and:    keyhook check && keyhook run`,
		Version:       thisBuild().Version,
		Args:          unknownCommand,
		SilenceErrors: true,
		SilenceUsage:  true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.SetOut(p.Stderr)
			return errors.Join(cmd.Help(), &usageError{message: "no command given"})
		},
		CompletionOptions: cobra.CompletionOptions{HiddenDefaultCmd: true},
	}
	root.SetArgs(append([]string{}, p.Args...)) // nil would be those of the process
	root.SetIn(p.Stdin)
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{message: err.Error(), hint: "`" + cmd.CommandPath() + " --help` lists the flags"}
	})
	root.AddCommand(runCommand(p), devCommand(p), deadLetterCommand(p), owedCommand(p), sinkCommand(p), auditCommand(p), checkCommand(), testCommand(), explainCommand(), tailCommand(), healthCommand(), schemaCommand(), versionCommand())
	return root
}

// usageError is a command line that is not understood.
type usageError struct{ message, hint string }

func (e *usageError) Error() string { return e.message }

// Hint says what to do instead.
func (e *usageError) Hint() string { return e.hint }

func unknownCommand(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	var names []string
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	return &usageError{
		message: fmt.Sprintf("unknown command %q", args[0]),
		hint:    strictyaml.DidYouMean(args[0], names),
	}
}

// noArguments refuses anything that is no flag.
func noArguments(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return &usageError{
		message: fmt.Sprintf("%s takes no arguments, found %q", cmd.CommandPath(), args[0]),
		hint:    "the configuration is named with -c FILE",
	}
}

// report prints err, if any, and returns the exit code that it means.
func report(w io.Writer, err error) int {
	if err == nil {
		return exitFine
	}
	var problems strictyaml.Problems
	if errors.As(err, &problems) {
		fmt.Fprintln(w, problems.Report())
		return exitUsage
	}
	printError(w, err)
	var usage *usageError
	if errors.As(err, &usage) {
		return exitUsage
	}
	return exitFailed
}

// printError prints each line of err as a line of its own, and its hint below.
func printError(w io.Writer, err error) {
	for line := range strings.Lines(err.Error()) {
		fmt.Fprintf(w, "keyhook: %s\n", strings.TrimRight(line, "\n"))
	}
	if advice := hint.Of(err); advice != "" {
		fmt.Fprintf(w, "    %s\n", advice)
	}
}

// configFlag adds -c.
func configFlag(cmd *cobra.Command, path *string, def, usage string) {
	cmd.Flags().StringVarP(path, "config", "c", def, usage)
}

// unreadConfigFlag adds -c to a command that reads no configuration, so that all
// commands can be called alike.
func unreadConfigFlag(cmd *cobra.Command) {
	configFlag(cmd, new(string), defaultConfig, "taken as by every command, and not read")
}

// outputFlag adds --output.
func outputFlag(cmd *cobra.Command, into *output) {
	*into = forPeople
	cmd.Flags().VarP(into, "output", "o", "how the result is printed: text or json")
}

// output is how a result is printed.
type output string

const (
	forPeople   output = "text"
	forPrograms output = "json"
)

func (o *output) String() string { return string(*o) }

// Set implements pflag.Value.
func (o *output) Set(s string) error {
	switch v := output(s); v {
	case forPeople, forPrograms:
		*o = v
		return nil
	default:
		return errors.New("write text or json")
	}
}

// Type implements pflag.Value.
func (*output) Type() string { return "format" }
