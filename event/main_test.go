package event_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
)

func decoder(stream string) *eventtest.Decoder {
	return eventtest.NewDecoder(strings.NewReader(stream), 0)
}

// all reads events up to the end of the stream.
func all(t testing.TB, d *eventtest.Decoder) (events []event.Event) {
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

// list writes events as "id|name|data" for comparison.
func list(events []event.Event) string {
	var out []string
	for _, e := range events {
		out = append(out, fmt.Sprintf("%s|%s|%s", e.ID, e.Name, e.Data))
	}
	return fmt.Sprintf("%q", out)
}
