package webhook_test

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"keyhook"
	"keyhook/sinks/webhook"
)

// BenchmarkDeliver holds the sink against a bare client loop that posts the
// same bodies to the same receiver.
func BenchmarkDeliver(b *testing.B) {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()
	const parallel = 16
	body := bytes.Repeat([]byte("x"), 1024)

	b.Run("bare", func(b *testing.B) {
		transport := &http.Transport{MaxIdleConnsPerHost: parallel}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport, Timeout: 15 * time.Second}
		b.SetParallelism(parallel / 2)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				resp, err := client.Post(receiver.URL, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, resp.Body)
				_ = resp.Body.Close()
			}
		})
	})
	for name, sign := range map[string][]string{"webhook": nil, "webhook signed": {testSecret}} {
		b.Run(name, func(b *testing.B) {
			s, err := webhook.New(webhook.Config{
				URL: receiver.URL, Sign: sign, Concurrency: parallel,
				Headers: []keyhook.Header{{Name: "Authorization", Value: "Bearer " + testToken}},
			})
			if err != nil {
				b.Fatal(err)
			}
			defer s.Close()
			b.SetParallelism(parallel / 2)
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				d := message(string(body))
				ds := []*keyhook.Delivery{d}
				for pb.Next() {
					if err := s.Deliver(b.Context(), ds)[0]; err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}
