// Package charset converts text to UTF-8.
package charset

import (
	"bytes"
	"errors"
	"unicode/utf8"

	"golang.org/x/text/encoding"
	"golang.org/x/text/encoding/charmap"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
)

// Byte order marks (WHATWG Encoding, "BOM sniff"). A mark counts more than what a
// media type declares.
const (
	MarkUTF8    = "\xEF\xBB\xBF"
	MarkUTF16LE = "\xFF\xFE"
	MarkUTF16BE = "\xFE\xFF"
)

// ErrUnknown is the error for text in a charset that the module can't convert.
var ErrUnknown = errors.New("unknown charset")

// ToUTF8 converts text to UTF-8, given the charset that its media type declares;
// an empty one is UTF-8. It returns the charset from which it did so, and drops the
// byte order mark of UTF-16.
//
// It returns text as it is, and no charset, if that is UTF-8 already: also text
// that is declared as a charset of single bytes, such as ISO-8859-1, and happens to
// be UTF-8, since servers declare a default for what programs write. With
// [ErrUnknown] it returns the text as it is, too. Bytes that mean nothing in the
// charset become U+FFFD.
func ToUTF8(text []byte, declared string) (converted []byte, from string, err error) {
	enc, mark, from, err := encodingOf(text, declared)
	if enc == nil {
		return text, "", err
	}
	return decode(text[len(mark):], enc), from, nil
}

// encodingOf returns the encoding of a text, its byte order mark and its name. The
// encoding is nil for UTF-8, and for an unknown charset.
func encodingOf(text []byte, declared string) (enc encoding.Encoding, mark, name string, err error) {
	switch {
	case bytes.HasPrefix(text, []byte(MarkUTF8)):
		return nil, "", "", nil
	case bytes.HasPrefix(text, []byte(MarkUTF16LE)):
		return unicode.UTF16(unicode.LittleEndian, unicode.IgnoreBOM), MarkUTF16LE, "utf-16le", nil
	case bytes.HasPrefix(text, []byte(MarkUTF16BE)):
		return unicode.UTF16(unicode.BigEndian, unicode.IgnoreBOM), MarkUTF16BE, "utf-16be", nil
	}
	enc, err = declaredEncoding(text, declared)
	return enc, "", declared, err
}

// declaredEncoding returns nil if the text is UTF-8, or in an unknown charset.
func declaredEncoding(text []byte, declared string) (encoding.Encoding, error) {
	if declared == "" {
		return nil, nil
	}
	enc, err := htmlindex.Get(declared)
	switch {
	case err != nil, enc == encoding.Replacement: // which browsers don't read either
		return nil, ErrUnknown
	case enc == unicode.UTF8, isSingleByte(enc) && utf8.Valid(text):
		return nil, nil
	}
	return enc, nil
}

func isSingleByte(enc encoding.Encoding) bool {
	_, single := enc.(*charmap.Charmap)
	return single
}

// decode needs no error: the decoders replace what they can't read.
func decode(text []byte, enc encoding.Encoding) []byte {
	converted, _ := enc.NewDecoder().Bytes(text)
	return converted
}
