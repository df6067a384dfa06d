package nats_test

import (
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"keyhook/internal/natstest"
	"keyhook/sinks"
	"keyhook/sinks/nats"
)

func TestSubjects(t *testing.T) {
	for subject, want := range map[string]string{
		"a":                       "",
		"audit.service.%25.-_=":   "",
		"größe.日本":                "",
		"$KV.bucket.key":          "",
		strings.Repeat("a", 1024): "",
		"":                        "is empty",
		"a.*":                     "wildcard",
		"a.>":                     "wildcard",
		"a*b":                     "wildcard",
		">":                       "wildcard",
		".a":                      "empty token",
		"a.":                      "empty token",
		"a..b":                    "empty token",
		"a b":                     "space",
		"a\tb":                    "space",
		"a\r\nPUB b 0":            "space",
		"a\x00":                   "control character",
		"a\u00a0":                 "space",
		"a\xff":                   "not UTF-8",
		"$JS.API.STREAM.DELETE.A": "belongs to NATS",
		"$SYS.REQ.SERVER.PING":    "belongs to NATS",
		"_INBOX.abc.1":            "belongs to NATS",
		strings.Repeat("a", 1025): "more than 1024",
		strings.Repeat("a", 5000): "more than 1024",
	} {
		switch err := nats.CheckSubject(subject); {
		case want == "" && err != nil:
			t.Errorf("%q: %v", subject, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%q: got %v, want %s", subject, err, want)
		}
	}
}

// What cannot be sent does not touch the connection, nor its neighbours; the
// longest subject passes the server.
func TestABadSubjectHarmsNobodyElse(t *testing.T) {
	server := natstest.Start(t, nil)
	conn := server.Client()
	got := listen(t, conn, ">")
	s := newSink(t, nats.Config{URL: server.URL()})
	longest := strings.Repeat("a", 1024)
	mustSend(t, s, message(1, longest, "first"))
	for _, subject := range []string{"a.*", "t..a", strings.Repeat("a", 5000), "a b", ""} {
		wantError(t, send(t.Context(), s, message(2, subject, "bad")), sinks.Rejected, "subject")
	}
	mustSend(t, s, message(3, longest, "last"))
	for _, want := range []string{"first", "last"} {
		if m := next(t, got); string(m.Data) != want {
			t.Errorf("%q arrived, want %q", m.Data, want)
		}
	}
	nothing(t, conn, got)
}

// What passes is, for the server, the name of one subject.
func FuzzSubjects(f *testing.F) {
	for _, s := range []string{"a.b", "a..b", "a.*", "$KV.a", "ü", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if nats.CheckSubject(s) == nil && (!server.IsValidLiteralSubject(s) || strings.ContainsAny(s, " \t\r\n\x00")) {
			t.Errorf("%q passes", s)
		}
	})
}
