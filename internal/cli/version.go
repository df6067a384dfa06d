package cli

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"keyhook/internal/devserver"
)

// version is set when a release is built.
var version = ""

// build describes this binary.
type build struct {
	Version    string `json:"version"`
	Commit     string `json:"commit,omitempty"`
	Modified   bool   `json:"modified,omitempty"`
	Go         string `json:"go"`
	Platform   string `json:"platform"`
	EtcdClient string `json:"etcd_client"`
	Dev        bool   `json:"dev"` // whether `keyhook dev` is in it
}

func thisBuild() build {
	b := build{
		Version:  version,
		Go:       runtime.Version(),
		Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Dev:      devserver.Included,
	}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if b.Version == "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	for _, m := range info.Deps {
		if m.Path == "go.etcd.io/etcd/client/v3" {
			b.EtcdClient = m.Version
		}
	}
	return b
}

func versionCommand() *cobra.Command {
	var format output
	cmd := &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArguments,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return printVersion(cmd.OutOrStdout(), thisBuild(), format)
		},
	}
	unreadConfigFlag(cmd)
	outputFlag(cmd, &format)
	return cmd
}

func printVersion(w io.Writer, b build, format output) error {
	if format == forPrograms {
		return printJSON(w, b)
	}
	commit := b.Commit
	if commit == "" {
		commit = "unknown"
	} else if b.Modified {
		commit += ", modified"
	}
	dev := "included"
	if !b.Dev {
		dev = "left out (built with the tag nodev)"
	}
	_, err := fmt.Fprintf(w, "keyhook %s\n  commit       %s\n  built with   %s for %s\n  etcd client  %s\n  keyhook dev  %s\n",
		b.Version, commit, b.Go, b.Platform, b.EtcdClient, dev)
	return err
}
