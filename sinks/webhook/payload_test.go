package webhook

import (
	"errors"
	"io"
	"testing"
)

func TestAPayloadIsReadUntilItIsReleased(t *testing.T) {
	data := []byte("hello world")
	p := &payload{data: data}
	if got, err := io.ReadAll(p.reader()); err != nil || string(got) != "hello world" {
		t.Fatalf("got %q, %v", got, err)
	}
	r, buf := p.reader(), make([]byte, 5)
	if n, err := r.Read(buf); n != 5 || err != nil {
		t.Fatalf("got %d, %v", n, err)
	}

	// A transport that goes on reading while the attempt ends.
	ended := make(chan error)
	go func() {
		for {
			// Closing and reading it anew is what a repetition does.
			if _, err := io.Copy(io.Discard, p.reader()); err != nil {
				ended <- err
				return
			}
		}
	}()
	p.release()
	clear(data) // the race detector sees who still reads it
	if err := <-ended; !errors.Is(err, errReleased) {
		t.Errorf("reading ends with %v", err)
	}
	if n, err := r.Read(buf); n != 0 || !errors.Is(err, errReleased) {
		t.Errorf("got %d, %v", n, err)
	}
	if p.data != nil {
		t.Error("the data is still held")
	}
}

func TestAShortPayloadIsACopy(t *testing.T) {
	data := []byte("hello world")
	p := newPayload(data)
	clear(data)
	for range 2 {
		if got, err := io.ReadAll(p.reader()); err != nil || string(got) != "hello world" {
			t.Errorf("got %q, %v", got, err)
		}
	}
	p.release()
	if long := newPayload(make([]byte, maxCopy+1)); long.copied != nil {
		t.Error("a long one is copied")
	}
}
