package stream

import "github.com/caddy-sse/caddy-sse/event"

// shutdownFrame is the event that tells a client that the server exits. It has no
// id: the client keeps its position.
var shutdownFrame = func() event.Frame {
	frame, err := event.Event{Name: "shutdown", Data: []byte("{}")}.Encode()
	if err != nil {
		panic(err)
	}
	return frame
}()
