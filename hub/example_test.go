package hub_test

import (
	"fmt"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/hub"
	"github.com/caddy-sse/caddy-sse/store"
)

func Example() {
	h := hub.New(store.NewMemory(), store.History{MaxEvents: 1000})
	defer h.Close()

	cursor := h.Subscribe([]string{"orders/42"})
	defer cursor.Close()

	if _, _, err := h.Publish([]string{"orders/42"}, event.Event{ID: "e-1", Data: []byte("paid")}); err != nil {
		fmt.Println(err)
		return
	}

	<-cursor.Ready()
	entries, err := cursor.Next(64<<10, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, e := range entries {
		fmt.Printf("%q\n", e.Frame)
	}
	// Output:
	// "id: e-1\ndata: paid\n\n"
}
