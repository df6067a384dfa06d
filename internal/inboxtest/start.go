package inboxtest

import (
	"context"
	"testing"

	"keyhook/internal/inbox"
)

// Start runs an inbox until the test ends. What was started after it ends before.
func Start(t testing.TB, cfg inbox.Config) *inbox.Server {
	t.Helper()
	box, err := inbox.Listen(t.Context(), "127.0.0.1:0", cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- box.Run(ctx) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Errorf("the inbox: %v", err)
		}
	})
	return box
}
