package backlog

import (
	"errors"
	"fmt"

	"keyhook/checkpoint"
)

var errCursor = &InvalidError{errors.New("the cursor is not one of this job")}

// letterCursor is where a job on dead letters stands: the numbers below Until
// existed when it began.
type letterCursor struct{ From, Until uint64 }

func (c letterCursor) String() string { return fmt.Sprintf("d%x.%x", c.From, c.Until) }

func parseLetterCursor(s string) (c letterCursor, err error) {
	if n, err := fmt.Sscanf(s, "d%x.%x", &c.From, &c.Until); n != 2 || err != nil || c.String() != s {
		return letterCursor{}, errCursor
	}
	return c, nil
}

// owedCursor is where a job on owed deliveries stands: the ordinals below Until
// existed when it began.
type owedCursor struct {
	From  checkpoint.Ref
	Until uint64
}

func (c owedCursor) String() string {
	return fmt.Sprintf("o%x.%x.%x.%x", c.From.Lane, c.From.Chain, c.From.Ordinal, c.Until)
}

func parseOwedCursor(s string) (c owedCursor, err error) {
	n, err := fmt.Sscanf(s, "o%x.%x.%x.%x", &c.From.Lane, &c.From.Chain, &c.From.Ordinal, &c.Until)
	if n != 4 || err != nil || c.String() != s {
		return owedCursor{}, errCursor
	}
	return c, nil
}
