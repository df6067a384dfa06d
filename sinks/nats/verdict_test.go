package nats_test

import (
	"testing"

	"keyhook/sinks/nats"
)

// What comes before the number tells acknowledgements apart: only where it is
// all that there is but for the number may one be taken for another.
func TestAcknowledgementsAreToldApartByWhatComesBeforeTheNumber(t *testing.T) {
	for ack, want := range map[string]string{
		`{"stream":"AUDIT","seq":1}`:                      `{"stream":"AUDIT","seq":`,
		`{"stream":"AUDIT","seq":18446744073709551615}`:   `{"stream":"AUDIT","seq":`,
		`{"stream":"AUDIT","domain":"hub","seq":7}`:       `{"stream":"AUDIT","domain":"hub","seq":`,
		`{"error":{"code":503},"stream":"AUDIT","seq":0}`: `{"error":{"code":503},"stream":"AUDIT","seq":`,
		`{"stream":"AUDIT","seq":1,"duplicate":true}`:     "",
		`{"stream":"AUDIT","seq":0,"error":{"code":503}}`: "",
		`{"stream":"AUDIT","seq":}`:                       "",
		`{"stream":"AUDIT","seq":"1"}`:                    "",
		`{"stream":"AUDIT","seq":1`:                       "",
		`{"stream":"AUDIT"}`:                              "",
		`1}`:                                              "",
		``:                                                "",
	} {
		if got := ack[:nats.BeforeSequence([]byte(ack))]; got != want {
			t.Errorf("%s: %q, not %q", ack, got, want)
		}
	}
}
