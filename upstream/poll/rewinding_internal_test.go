package poll

import (
	"io"
	"testing"
)

func readAll(t *testing.T, b *rewinding) {
	t.Helper()
	if got, err := io.ReadAll(b); err != nil || string(got) != "query" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestBodyOfPollBeginsAgainForEachReader(t *testing.T) {
	b := &rewinding{content: []byte("query")}
	for range 3 {
		readAll(t, b)
	}
	_ = b.Close()
	readAll(t, b)
}

// The transport of the first request closes the body while the second reads it.
func TestLateCloseLeavesTheNextReaderItsPlace(t *testing.T) {
	b := &rewinding{content: []byte("query")}
	readAll(t, b)
	start := make([]byte, 2)
	if _, err := io.ReadFull(b, start); err != nil || string(start) != "qu" {
		t.Fatalf("%q, %v", start, err)
	}
	_ = b.Close() // the first reader's
	if rest, err := io.ReadAll(b); err != nil || string(rest) != "ery" {
		t.Errorf("%q, %v", rest, err)
	}
	_ = b.Close()
	readAll(t, b)
}

// A backend that responds before it has read the body makes the transport close it.
func TestBodyThatWasClosedHalfReadBeginsAgain(t *testing.T) {
	b := &rewinding{content: []byte("query")}
	_, _ = io.ReadFull(b, make([]byte, 2))
	_ = b.Close()
	readAll(t, b)
}
