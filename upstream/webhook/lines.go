package webhook

import (
	"bytes"
	"encoding/json"
	"fmt"

	"github.com/caddy-sse/caddy-sse/jq"
)

// linesToJSON makes a JSON array of a body that has a document in each line.
// Its errors are for the sender.
func linesToJSON(body []byte) ([]byte, error) {
	array := make([]byte, 0, len(body)+2)
	array = append(array, '[')
	count := 0
	for number := 1; len(body) > 0; number++ {
		var line []byte
		line, body, _ = bytes.Cut(body, []byte{'\n'})
		if line = bytes.TrimSpace(line); len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			return nil, fmt.Errorf("line %d of the body isn't JSON", number)
		}
		if count++; count > jq.MaxOutputs {
			return nil, fmt.Errorf("the body has more than %d lines", jq.MaxOutputs)
		}
		if count > 1 {
			array = append(array, ',')
		}
		array = append(array, line...)
	}
	return append(array, ']'), nil
}
