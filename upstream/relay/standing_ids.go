package relay

import (
	"crypto/rand"
	"net/url"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/hub"
)

// ids makes the ids of a standing feed's events. They begin with a name of the feed,
// so that those of several feeds differ, and hold the feed's own id, with which the
// module resumes after a restart.
type ids struct {
	hub    *hub.Hub
	prefix string
	nonce  string // differs in each process
	made   int
}

const standingPrefix = "feed."

func newIDs(h *hub.Hub, key string) ids {
	return ids{hub: h, prefix: standingPrefix + key[:8] + ".", nonce: rand.Text()[:6]}
}

// maxOwnID is the longest text of a feed's own id for which an event's id has room.
const maxOwnID = 36

// hashed begins the text of an id that is too long: a digest, which nothing can be
// resumed from.
const hashed = "="

// of returns the id of the output with a number, from zero, of the feed's event with an
// id. It is the same for the same event.
func (n *ids) of(own string, output int) string {
	if output == 0 {
		return n.prefix + n.text(own)
	}
	return n.prefix + n.text(own) + "+" + strconv.Itoa(output)
}

// another returns a new id of an event after the feed's event with an id.
func (n *ids) another(own string) string {
	n.made++
	return n.prefix + n.text(own) + "+" + n.nonce + "." + strconv.FormatInt(int64(n.made), 36)
}

func (n *ids) text(own string) string {
	text := strings.ReplaceAll(url.QueryEscape(own), "+", "%20")
	if len(text) > maxOwnID {
		return hashed + n.hub.Digest("id", own)
	}
	return text
}

// original returns the feed's own id of an event of this feed; empty if there is none.
func (n *ids) original(id string) string {
	text, ok := strings.CutPrefix(id, n.prefix)
	text, _, _ = strings.Cut(text, "+")
	if !ok || strings.HasPrefix(text, hashed) {
		return ""
	}
	own, err := url.PathUnescape(text)
	if err != nil {
		return ""
	}
	return own
}
