package webhook

import (
	"encoding/json"
	"net/http"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// checkDuplicateKeys refuses JSON in which an object has a key twice. Some
// readers take the first value and some the last (RFC 8259 §4), so that the
// module could check one value and the app use the other.
func (c *content) checkDuplicateKeys() *refusal.Error {
	if !c.media.isJSONLines() && !c.isJSON() { // which also limits the nesting
		return nil
	}
	var open []map[string]bool // the keys of each open object
	s := newScanner(c.body)
	for {
		token, _, isKey, err := s.next()
		switch {
		case err != nil: // the end, or a mistake that is refused later
			return nil
		case token == json.Delim('{'):
			open = append(open, nil)
		case token == json.Delim('}'):
			open = open[:len(open)-1]
		case isKey:
			key, top := token.(string), len(open)-1
			if open[top][key] {
				return refusal.Newf(http.StatusBadRequest, "an object in the body has two members named %q", oneLine(key))
			}
			if open[top] == nil {
				open[top] = make(map[string]bool)
			}
			open[top][key] = true
		}
	}
}
