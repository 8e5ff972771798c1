package webhook

import (
	"bytes"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// scanner goes through JSON token by token, and tells the names of members from
// the texts among their values. It doesn't recurse: the body is a stranger's.
type scanner struct {
	*json.Decoder
	body    []byte
	end     int64  // of the last token
	objects []bool // what is open: objects, or else lists
	atName  bool   // the next text is a member's name
}

func newScanner(body []byte) *scanner {
	s := &scanner{Decoder: json.NewDecoder(bytes.NewReader(body)), body: body}
	s.UseNumber()
	return s
}

// next is a token, its bytes as they came, and whether it is a member's name.
func (s *scanner) next() (token json.Token, raw []byte, isName bool, err error) {
	if token, err = s.Token(); err != nil {
		return nil, nil, false, err
	}
	raw = bytes.TrimLeft(s.body[s.end:s.InputOffset()], " \t\r\n,:")
	s.end = s.InputOffset()
	switch token {
	case json.Delim('{'), json.Delim('['):
		s.objects = append(s.objects, token == json.Delim('{'))
		s.atName = token == json.Delim('{')
		return token, raw, false, nil
	case json.Delim('}'), json.Delim(']'):
		s.objects = s.objects[:len(s.objects)-1]
	default:
		isName = s.atName
	}
	s.atName = !isName && len(s.objects) > 0 && s.objects[len(s.objects)-1]
	return token, raw, isName, nil
}

// checkNames refuses JSON of which two members of an object have one name:
// some readers take the first of them, some the last, and what one has checked
// would not be what the other sends.
func checkNames(body []byte, contentType string) *refusal.Error {
	if !isLines(mediaType(contentType)) && !json.Valid(body) { // which bounds the nesting, too
		return nil
	}
	var open []map[string]bool
	s := newScanner(body)
	for {
		token, _, isName, err := s.next()
		switch {
		case err != nil: // the end, or what is refused later
			return nil
		case token == json.Delim('{'):
			open = append(open, nil)
		case token == json.Delim('}'):
			open = open[:len(open)-1]
		case isName:
			name, top := token.(string), len(open)-1
			if open[top][name] {
				return refusal.Newf(http.StatusBadRequest, "an object in the body has two members named %q", oneLine(name))
			}
			if open[top] == nil {
				open[top] = make(map[string]bool)
			}
			open[top][name] = true
		}
	}
}

// withoutSecrets is a body without what gives a right to who knows it. What is
// left is as it came, but for spaces.
func withoutSecrets(body []byte, contentType string, names []string) []byte {
	switch {
	case len(names) == 0:
		return body
	case json.Valid(body):
		return withoutMembers(body, names)
	case mediaType(contentType) == formType:
		return withoutFields(string(body), names)
	}
	return body
}

// withoutMembers leaves out members of these names, however deep, of valid JSON.
func withoutMembers(body []byte, names []string) []byte {
	var out bytes.Buffer
	s := newScanner(body)
	var previous byte // what the last thing written was: the start of something, a name, or a value
	for {
		token, raw, isName, err := s.next()
		if err != nil {
			return out.Bytes()
		}
		if name, _ := token.(string); isName && slices.Contains(names, name) {
			s.skip()
			continue
		}
		closes := token == json.Delim('}') || token == json.Delim(']')
		if previous == 'v' && !closes {
			out.WriteByte(',')
		}
		out.Write(raw)
		switch {
		case isName:
			out.WriteByte(':')
			previous = 'n'
		case token == json.Delim('{') || token == json.Delim('['):
			previous = 's'
		default:
			previous = 'v'
		}
	}
}

// skip passes over the value of the member whose name came last.
func (s *scanner) skip() {
	depth := len(s.objects)
	for {
		if _, _, _, err := s.next(); err != nil || len(s.objects) == depth {
			return
		}
	}
}

// withoutFields does that for a form, and for the JSON in its fields.
func withoutFields(form string, names []string) []byte {
	var kept []string
	for pair := range strings.SplitSeq(form, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, _ := url.QueryUnescape(rawName)
		if slices.Contains(names, name) {
			continue
		}
		value, err := url.QueryUnescape(rawValue)
		if err == nil && strings.HasPrefix(value, "{") && json.Valid([]byte(value)) {
			pair = rawName + "=" + url.QueryEscape(string(withoutMembers([]byte(value), names)))
		}
		kept = append(kept, pair)
	}
	return []byte(strings.Join(kept, "&"))
}
