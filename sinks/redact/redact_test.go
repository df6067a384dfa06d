package redact_test

import (
	"encoding/base64"
	"strings"
	"testing"

	"keyhook/sinks/redact"
)

func TestSecretsAreFoundHoweverTheyAreWritten(t *testing.T) {
	r := redact.New("s3cret/Value", "s3cret/Value+longer", "abc")
	for text, want := range map[string]string{
		"the token s3cret/Value is wrong": "the token [redacted] is wrong",
		"S3CRET/VALUE":                    "[redacted]",
		"s3cret/Value+longer":             "[redacted]", // as a whole
		"s3cret%2FValue":                  "[redacted]",
		"abc is too short to be one":      "abc is too short to be one",
		"two\nlines\x00":                  "two lines",
	} {
		if got := r.Clean(text, false); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	encoded := base64.StdEncoding.EncodeToString([]byte("user:s3cret/Value"))
	if got := r.Clean("Basic "+encoded, false); strings.Contains(got, encoded) || !strings.Contains(got, redact.Mark) {
		t.Errorf("base64 amid other data: %q", got)
	}
}

func TestAQuoteIsShortAndDoesNotEndInASecret(t *testing.T) {
	r := redact.New("s3cret-value")
	if got := r.Clean(strings.Repeat("x", 10_000), false); len(got) > redact.MaxText+len("…") {
		t.Errorf("%d bytes are quoted", len(got))
	}
	if got := r.Clean("the token is s3cret-va", true); strings.Contains(got, "s3cret") {
		t.Errorf("the beginning of a secret is left: %q", got)
	}
}
