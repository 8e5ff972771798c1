package stream

import "github.com/caddy-sse/caddy-sse/event"

// shutdownFrame tells a client that the server goes away. It has no id: the
// client's position stays the one of what it has seen last.
var shutdownFrame = func() event.Frame {
	frame, err := event.Event{Name: "shutdown", Data: []byte("{}")}.Encode()
	if err != nil {
		panic(err)
	}
	return frame
}()
