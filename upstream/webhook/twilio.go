package webhook

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/hex"
	"maps"
	"net"
	"net/url"
	"slices"
	"strings"
)

// urls are the ways in which the sender may have written the URL that it has
// called: with and without the port that goes without saying, since Twilio's
// libraries take each. If no URL is signed it is one, and empty.
func (s *scheme) urls(d *received) []string {
	if s.url == nil {
		return []string{""}
	}
	whole, _ := s.url.Expand(func(name string) (string, error) {
		text, _ := d.repl.GetString(name)
		return text, nil
	})
	scheme, rest, ok := strings.Cut(whole, "://")
	if !ok {
		return []string{whole}
	}
	end := strings.IndexAny(rest, "/?#")
	if end < 0 {
		end = len(rest)
	}
	host, target := rest[:end], rest[end:]
	urls := []string{whole}
	if name, _, err := net.SplitHostPort(host); err == nil {
		return append(urls, scheme+"://"+name+target)
	}
	port := ":80"
	if scheme == "https" {
		port = ":443"
	}
	return append(urls, scheme+"://"+host+port+target)
}

// twilioParams are a form's fields in the way that Twilio signs them: by name,
// each value once, with nothing in between. Of any other body the URL has a
// digest; one that has none isn't signed, and false.
func twilioParams(d *received, signedURL string) ([]byte, bool) {
	if mediaType(d.Header.Get("Content-Type")) != formType {
		return nil, len(d.body) == 0 || isBodySHA256(d.body, signedURL)
	}
	form, err := url.ParseQuery(string(d.body))
	if err != nil {
		return nil, false
	}
	var params []byte
	for _, name := range slices.Sorted(maps.Keys(form)) {
		values := slices.Clone(form[name])
		slices.Sort(values)
		for _, value := range slices.Compact(values) {
			params = append(append(params, name...), value...)
		}
	}
	return params, true
}

// isBodySHA256 tells whether the URL's query says what the body is.
func isBodySHA256(body []byte, signedURL string) bool {
	u, err := url.Parse(signedURL)
	if err != nil {
		return false
	}
	said := u.Query()["bodySHA256"]
	sum := sha256.Sum256(body)
	return len(said) == 1 && subtle.ConstantTimeCompare([]byte(strings.ToLower(said[0])), []byte(hex.EncodeToString(sum[:]))) == 1
}
