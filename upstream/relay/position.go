package relay

import (
	"crypto/rand"
	"encoding/base64"
	"strconv"
	"strings"
)

// ResumeParameter is the query parameter with a feed's token, in the URLs from which
// viewers resume a POST.
const ResumeParameter = "relay"

// The id of an event is idPrefix, the feed's token, a dot and the event's number in
// the feed. Nobody can guess a token, so an id also shows that its client has
// received an event of the feed.
const idPrefix = "relay."

const tokenBytes = 16

var tokenLen = base64.RawURLEncoding.EncodedLen(tokenBytes)

func newToken() string {
	var b [tokenBytes]byte
	_, _ = rand.Read(b[:]) // it never fails
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// IsToken reports whether a text has the form of a feed's token.
func IsToken(text string) bool {
	b, err := base64.RawURLEncoding.DecodeString(text)
	return err == nil && len(b) == tokenBytes
}

func position(token string, n int) string { return idPrefix + token + "." + strconv.Itoa(n) }

// parsePosition returns the feed's token and the number of an event. ok is false if
// the id is not one of an event of a feed.
func parsePosition(id string) (token string, n int, ok bool) {
	rest, ok := strings.CutPrefix(id, idPrefix)
	if !ok || len(rest) < tokenLen+2 || rest[tokenLen] != '.' || !IsToken(rest[:tokenLen]) {
		return "", 0, false
	}
	n, err := strconv.Atoi(rest[tokenLen+1:])
	return rest[:tokenLen], n, err == nil && n >= 0
}
