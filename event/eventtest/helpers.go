package eventtest

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
)

// Decode returns a decoder of a stream.
func Decode(stream string) *Decoder { return NewDecoder(strings.NewReader(stream), 0) }

// All reads the events up to the end of the stream. Another error fails the test.
func All(t testing.TB, d *Decoder) (events []event.Event) {
	t.Helper()
	for {
		e, err := d.Next()
		if errors.Is(err, io.EOF) {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

// List formats events as "id|name|data", for comparison.
func List(events []event.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s|%s|%s", e.ID, e.Name, e.Data))
	}
	return fmt.Sprintf("%q", out)
}
