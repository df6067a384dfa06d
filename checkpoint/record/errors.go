package record

import (
	"errors"
	"fmt"
)

// version is the first byte of every record that this program writes.
const version = 1

// ErrMalformed means that the bytes are no record.
var ErrMalformed = errors.New("malformed record")

// NewerError means that a later version of keyhook wrote the record.
type NewerError struct {
	Record  string // what it should be
	Version byte
}

func (e *NewerError) Error() string {
	return fmt.Sprintf("the %s was written in version %d of its encoding, this keyhook reads up to %d", e.Record, e.Version, version)
}

// Hint says what to do about it.
func (e *NewerError) Hint() string {
	return "run the version of keyhook that wrote it, or a newer one"
}

// open checks the version and returns what follows it.
func open(kind string, b []byte) ([]byte, error) {
	switch {
	case len(b) == 0 || b[0] == 0:
		return nil, malformed(kind, errors.New("it has no version"))
	case b[0] > version:
		return nil, &NewerError{Record: kind, Version: b[0]}
	}
	return b[1:], nil
}

func malformed(kind string, err error) error {
	return fmt.Errorf("%w: %s: %w", ErrMalformed, kind, err)
}
