package hint

import "errors"

// hinted is an error with a hint.
type hinted struct {
	text, hint string
	cause      error
}

func (e *hinted) Error() string { return e.text }

// Hint says what to do about it.
func (e *hinted) Hint() string { return e.hint }

func (e *hinted) Unwrap() error { return e.cause }

// New returns an error with a hint. The cause is for programs: what is to be read
// of it belongs into the text. It may be nil.
func New(text, hint string, cause error) error { return &hinted{text, hint, cause} }

// With returns err with a hint, in place of one that it may have.
func With(err error, hint string) error { return New(err.Error(), hint, err) }

// Of returns the hint of the first error in the tree of err that can have one, ""
// if it has none.
func Of(err error) string {
	if h, ok := errors.AsType[interface {
		error
		Hint() string
	}](err); ok {
		return h.Hint()
	}
	return ""
}
