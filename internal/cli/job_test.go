package cli

import (
	"errors"
	"fmt"
	"io"
	"net/url"
	"testing"
)

// Nobody knows what became of a request that was not answered.
func TestWhatIsSaidOfTheRestOfAJob(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{errors.New("stopped by a signal"), "the rest is as it was"},
		{
			fmt.Errorf("ask the process: %w", &url.Error{Op: "Post", URL: "http://127.0.0.1:1/", Err: io.EOF}),
			"what was under way when the connection broke may be done as well",
		},
	} {
		if got := theRest(tt.err); got != tt.want {
			t.Errorf("%v: %s", tt.err, got)
		}
	}
}
