package webhook

import (
	"bytes"
	"encoding/json"
)

// scanner reads JSON token by token and distinguishes the keys of objects from
// strings. It doesn't recurse: a sender chooses the nesting.
type scanner struct {
	*json.Decoder
	body    []byte
	end     int64  // of the last token
	objects []bool // the open objects (true) and lists (false)
	atKey   bool   // the next string is a key
}

func newScanner(body []byte) *scanner {
	s := &scanner{Decoder: json.NewDecoder(bytes.NewReader(body)), body: body}
	s.UseNumber()
	return s
}

// next returns a token, its bytes as they came, and whether it is a key.
func (s *scanner) next() (token json.Token, raw []byte, isKey bool, err error) {
	if token, err = s.Token(); err != nil {
		return nil, nil, false, err
	}
	raw = bytes.TrimLeft(s.body[s.end:s.InputOffset()], " \t\r\n,:")
	s.end = s.InputOffset()
	switch token {
	case json.Delim('{'), json.Delim('['):
		s.objects = append(s.objects, token == json.Delim('{'))
		s.atKey = token == json.Delim('{')
		return token, raw, false, nil
	case json.Delim('}'), json.Delim(']'):
		s.objects = s.objects[:len(s.objects)-1]
	default:
		isKey = s.atKey
	}
	s.atKey = !isKey && len(s.objects) > 0 && s.objects[len(s.objects)-1]
	return token, raw, isKey, nil
}

// skipValue skips the value of the key that next has just returned.
func (s *scanner) skipValue() {
	depth := len(s.objects)
	for {
		if _, _, _, err := s.next(); err != nil || len(s.objects) == depth {
			return
		}
	}
}
