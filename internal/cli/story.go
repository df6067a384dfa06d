package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"keyhook/internal/backlog"
)

// printStory prints all that is known of a dead letter for people.
func printStory(out io.Writer, s *backlog.Story, now time.Time) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	row := func(name, value string) { fmt.Fprintf(w, "%s\t%s\n", name, value) }
	when := func(t time.Time) string { return t.Format(time.RFC3339) + " (" + ago(t, now) + ")" }
	row("id", printable(s.ID))
	row("rule", printable(s.Rule))
	row("send", printable(s.Send))
	row("sink", printable(s.Sink))
	row("key", textOf(s.Key, s.KeyBase64))
	row("revision", strconv.FormatInt(s.Revision, 10))
	row("reason", printable(string(s.Reason)))
	row("error", printable(s.Error))
	row("attempts", strconv.Itoa(s.Attempts))
	row("admitted", when(s.AdmittedAt))
	row("failed", when(s.FailedAt))
	row("size", size(s.Size))

	synthetic := ""
	if s.Event.Synthetic {
		synthetic = ", from a listing"
	}
	fmt.Fprintf(w, "\nevent\t%s, received %s%s\n", s.Event.Type, s.Event.Time.Format(time.RFC3339), synthetic)
	printHeld(w, &s.Event.Held)
	if s.Event.Prev != nil {
		fmt.Fprintln(w, "\nbefore")
		printHeld(w, s.Event.Prev)
	}
	if s.Event.Last != nil {
		fmt.Fprintln(w, "\nbefore it was deleted")
		printHeld(w, s.Event.Last)
	}
	if s.Message == nil {
		fmt.Fprintln(w, "\nmessage\tnone: it could not be rendered")
		return w.Flush()
	}
	fmt.Fprintf(w, "\nmessage\t%s\n", printable(s.Message.ContentType))
	if s.Message.Subject != "" {
		row("  subject", printable(s.Message.Subject))
	}
	for _, name := range slices.Sorted(maps.Keys(s.Message.Headers)) {
		row("  "+printable(name), printable(s.Message.Headers[name]))
	}
	printContent(w, "body", s.Message.Body, s.Message.BodyBase64)
	return w.Flush()
}

func printHeld(w io.Writer, h *backlog.Held) {
	about := fmt.Sprintf("%d, version %d, created at %d", h.Revision, h.Version, h.CreateRevision)
	if h.Lease != "" {
		about += ", lease " + h.Lease
	}
	fmt.Fprintf(w, "  revision\t%s\n", about)
	printContent(w, "value", h.Value, h.ValueBase64)
}

// printContent prints a value or a body: on its line if it is short, below it
// otherwise.
func printContent(w io.Writer, name string, text *string, raw []byte) {
	switch {
	case len(raw) > 0:
		fmt.Fprintf(w, "  %s\t%s that are not text; --output json has them in base64\n", name, size(len(raw)))
	case text == nil || *text == "":
		fmt.Fprintf(w, "  %s\t(empty)\n", name)
	case len(*text) <= maxCell && !strings.Contains(*text, "\n"):
		fmt.Fprintf(w, "  %s\t%s\n", name, printable(*text))
	default:
		fmt.Fprintf(w, "  %s\t%s\n", name, size(len(*text)))
		for line := range strings.Lines(*text) {
			fmt.Fprintf(w, "    %s\n", printable(strings.TrimSuffix(line, "\n")))
		}
	}
}
