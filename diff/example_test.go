package diff_test

import (
	"context"
	"fmt"

	"github.com/caddy-sse/caddy-sse/diff"
)

func Example() {
	padding := `"text":"a patch is sent if it is shorter than the document"`
	from, err := diff.Parse([]byte(`{"order": 1, "items": ["tea", "milk"], ` + padding + `}`))
	if err != nil {
		panic(err)
	}
	to, err := diff.Parse([]byte(`{"order": 1, "items": ["tea", "sugar", "milk"], ` + padding + `}`))
	if err != nil {
		panic(err)
	}
	patch, err := diff.NewMode("patch", "")
	if err != nil {
		panic(err)
	}
	events, err := patch.Events(context.Background(), from, to)
	if err != nil {
		panic(err)
	}
	for _, e := range events {
		fmt.Printf("%s %s\n", e.Name, e.Data)
	}
	// Output: patch [{"op":"add","path":"/items/1","value":"sugar"}]
}
