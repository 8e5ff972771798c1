package poll

import (
	"cmp"
	"fmt"
	"mime"
	"net/http"
	"strconv"
	"strings"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
)

// accept returns the Accept header of polls for a viewer's request: that of the
// rule, or the other types that the viewer names.
func (c *Config) accept(viewers http.Header) string {
	return cmp.Or(c.ruleAccept(), stream.OtherTypes(viewers), subrequest.DefaultAccept)
}

// ruleAccept returns the Accept header of all polls of the rule, or the empty
// string if it depends on the viewer's: absorb needs the same one in all polls.
func (c *Config) ruleAccept() string {
	if c.Absorb {
		return cmp.Or(c.Accept, subrequest.DefaultAccept)
	}
	return c.Accept
}

// checkAccept returns an error if Accept is no list of media ranges (RFC 9110
// §12.5.1), or asks for a stream, which no poll reads.
func (c *Config) checkAccept() error {
	if c.Accept == "" {
		return nil
	}
	for element := range strings.SplitSeq(c.Accept, ",") {
		element = strings.TrimSpace(element)
		t, params, err := mime.ParseMediaType(element)
		if err != nil || !strings.Contains(t, "/") || !isWeight(params["q"]) {
			return fmt.Errorf("accept %q is no media type: write for example application/vnd.api+json, or text/html;q=0.5 for one that polls like less", element)
		}
		if t == stream.MediaType {
			return fmt.Errorf("accept %s asks for a stream, and a poll reads a document: write the document's type, such as application/json", stream.MediaType)
		}
	}
	return nil
}

// isWeight reports whether the text is a weight (RFC 9110 §12.4.2), or empty.
func isWeight(text string) bool {
	q, err := strconv.ParseFloat(text, 64)
	return text == "" || err == nil && q >= 0 && q <= 1
}
