package event_test

import (
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
)

func ExampleEvent_Encode() {
	e := event.Event{ID: "42", Name: "changed", Data: []byte("first line\nsecond line")}
	frame, err := e.Encode()
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%q\n", frame)
	// Output:
	// "id: 42\nevent: changed\ndata: first line\ndata: second line\n\n"
}
