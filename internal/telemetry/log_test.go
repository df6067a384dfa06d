package telemetry_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"keyhook/internal/telemetry"
)

func TestTheLogger(t *testing.T) {
	var out bytes.Buffer
	text, err := telemetry.NewLogger(&out, slog.LevelInfo, "text")
	if err != nil {
		t.Fatal(err)
	}
	text.Debug("unseen")
	text.Info("seen", "sink", "pager")
	if got := out.String(); strings.Contains(got, "unseen") || !strings.Contains(got, "level=INFO msg=seen sink=pager\n") {
		t.Errorf("logged %q", got)
	}

	out.Reset()
	structured, err := telemetry.NewLogger(&out, slog.LevelDebug, "json")
	if err != nil {
		t.Fatal(err)
	}
	structured.Debug("seen", "sink", "pager")
	var line struct{ Level, Msg, Sink string }
	if err := json.Unmarshal(out.Bytes(), &line); err != nil || line.Level != "DEBUG" || line.Msg != "seen" || line.Sink != "pager" {
		t.Errorf("logged %q, %v", out.String(), err)
	}

	if _, err := telemetry.NewLogger(&out, slog.LevelInfo, "xml"); err == nil || !strings.Contains(err.Error(), `"xml"`) {
		t.Errorf("got %v", err)
	}
}

// verbose is an error as those of the database are: its long form has a stack.
type verbose struct{}

func (verbose) Error() string { return "bad magic number" }

func (verbose) Format(s fmt.State, _ rune) {
	fmt.Fprint(s, "bad magic number")
	if s.Flag('+') {
		fmt.Fprint(s, "\n-- stack trace:\n")
	}
}

func TestAnErrorIsItsMessage(t *testing.T) {
	for format, want := range map[string]string{"text": `error="bad magic number"`, "json": `"error":"bad magic number"`} {
		var out bytes.Buffer
		log, err := telemetry.NewLogger(&out, slog.LevelInfo, format)
		if err != nil {
			t.Fatal(err)
		}
		log.WithGroup("disk").With("error", verbose{}).Info("with")
		log.Info("damaged", "error", verbose{})
		if got := out.String(); strings.Contains(got, "stack") || !strings.Contains(got, want) {
			t.Errorf("logged %s", got)
		}
	}
}
