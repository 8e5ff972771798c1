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

// urls returns the spellings of the URL that the sender may have signed: with
// and without the default port, since Twilio's libraries accept both. If the
// signature covers no URL, it returns one empty text.
func (s *scheme) urls(r *request) []string {
	urls := s.spellings(r)
	if !s.spelledURL {
		return urls
	}
	for _, u := range slices.Clone(urls) {
		urls = append(urls, hubSpotDecoder.Replace(u))
	}
	return urls
}

// hubSpotDecoder decodes what HubSpot decodes in a URL before it signs it:
// developers.hubspot.com, "Validate requests".
var hubSpotDecoder = strings.NewReplacer(
	"%3A", ":", "%2F", "/", "%3F", "?", "%40", "@", "%21", "!", "%24", "$", "%27", "'",
	"%28", "(", "%29", ")", "%2A", "*", "%2C", ",", "%3B", ";",
	"%3a", ":", "%2f", "/", "%3f", "?", "%2a", "*", "%2c", ",", "%3b", ";",
)

func (s *scheme) spellings(r *request) []string {
	if s.url == nil || !s.usesURL() {
		return []string{""}
	}
	whole, _ := s.url.Expand(func(name string) (string, error) {
		text, _ := r.repl.GetString(name)
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

// twilioParams returns the fields of a form as Twilio signs them: sorted by
// name, each value once, without separators. For any other body the signed URL
// has a digest. It returns false if the body isn't signed at all.
func twilioParams(r *request, signedURL string) ([]byte, bool) {
	if !r.media.isForm() {
		return nil, len(r.raw) == 0 || isBodySHA256(r.raw, signedURL)
	}
	form, err := url.ParseQuery(string(r.raw))
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

// isBodySHA256 reports whether the digest in the URL's query is the body's.
func isBodySHA256(body []byte, signedURL string) bool {
	u, err := url.Parse(signedURL)
	if err != nil {
		return false
	}
	digests := u.Query()["bodySHA256"]
	sum := sha256.Sum256(body)
	return len(digests) == 1 && subtle.ConstantTimeCompare([]byte(strings.ToLower(digests[0])), []byte(hex.EncodeToString(sum[:]))) == 1
}
