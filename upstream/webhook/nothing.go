package webhook

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/caddy-sse/caddy-sse/jq"
)

// givesNothing reports whether a program has read nothing of the document: it
// outputs null, and the same for no document at all. A null that it has read from
// the document is something.
func (p *part) givesNothing(program *jq.Program, output []byte) bool {
	readsFields := strings.Contains(program.String(), ".")
	if !readsFields || !hasNull(output) || !p.outputs(program, []byte("null"), output) {
		return false
	}
	document, err := p.document()
	if err != nil || !hasNull(document) {
		return err == nil
	}
	var value any
	decoder := json.NewDecoder(bytes.NewReader(document))
	decoder.UseNumber()
	if decoder.Decode(&value) != nil {
		return false
	}
	changed, err := json.Marshal(withoutNulls(value))
	return err == nil && p.outputs(program, changed, output)
}

// outputs reports whether a program outputs exactly this value for a document.
func (p *part) outputs(program *jq.Program, document, value []byte) bool {
	values, err := program.Run(p.ctx, document)
	return err == nil && len(values) == 1 && bytes.Equal(values[0], value)
}

// hasNull reports whether a JSON document has a null.
func hasNull(document []byte) bool {
	if !bytes.Contains(document, []byte("null")) {
		return false
	}
	s := newScanner(document)
	for {
		token, _, _, err := s.next()
		if err != nil {
			return false
		}
		if token == nil {
			return true
		}
	}
}

// withoutNulls puts a text in place of each null. Documents are nested no deeper
// than encoding/json allows.
func withoutNulls(value any) any {
	switch v := value.(type) {
	case nil:
		return "not null"
	case map[string]any:
		for name := range v {
			v[name] = withoutNulls(v[name])
		}
	case []any:
		for i := range v {
			v[i] = withoutNulls(v[i])
		}
	}
	return value
}

// kind names the content for an error.
func (c *content) kind() string {
	if c.media.isForm() && !c.isJSON() {
		return "a form"
	}
	return "the payload"
}
