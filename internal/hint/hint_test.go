package hint_test

import (
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"keyhook/internal/hint"
)

func TestAHintIsFoundWhereverItStands(t *testing.T) {
	missing := hint.New("there is no file", "make one", fs.ErrNotExist)
	for _, test := range []struct {
		err  error
		want string
	}{
		{missing, "make one"},
		{fmt.Errorf("start: %w", missing), "make one"},
		{errors.Join(errors.New("something else"), missing), "make one"},
		{hint.With(missing, "name another one"), "name another one"},
		{fs.ErrNotExist, ""},
		{nil, ""},
	} {
		if got := hint.Of(test.err); got != test.want {
			t.Errorf("of %v: %q, not %q", test.err, got, test.want)
		}
	}
	if err := hint.With(missing, "name another one"); err.Error() != "there is no file" || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the error itself is another one: %v", err)
	}
}
