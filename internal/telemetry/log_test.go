package telemetry_test

import (
	"bytes"
	"encoding/json"
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
