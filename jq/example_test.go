package jq_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/caddy-sse/caddy-sse/jq"
)

func ExampleProgram_Run() {
	program, err := jq.Compile(`.items[] | {name, price}`)
	if err != nil {
		panic(err)
	}
	outputs, err := program.Run(context.Background(), []byte(`{"items": [
		{"name": "tea", "price": 2.50, "stock": 9},
		{"name": "milk", "price": 1.20, "stock": 0}
	]}`))
	if err != nil {
		panic(err)
	}
	for _, output := range outputs {
		fmt.Printf("%s\n", output)
	}
	// Output:
	// {"name":"tea","price":2.50}
	// {"name":"milk","price":1.20}
}

func ExampleProgram_Run_limit() {
	program, err := jq.Compile(`repeat(1)`) // it never ends
	if err != nil {
		panic(err)
	}
	_, err = program.Run(context.Background(), []byte(`null`))
	fmt.Println(errors.Is(err, jq.ErrLimit), err)
	// Output: true jq program failed: limit exceeded: it gave more than 10000 values
}
