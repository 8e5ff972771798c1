package caddysse

import (
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/caddy-sse/caddy-sse/access"
	"github.com/caddy-sse/caddy-sse/upstream/publish"
)

func (h *Handler) parsePublish(d *caddyfile.Dispenser) error {
	h.Publish = new(publish.Publish)
	if d.NextArg() {
		return d.Errf("publish takes only a block: write `publish { token {env.PUBLISH_TOKEN} }`, a line for each option") // the argument may be a secret
	}
	return parseChecked(d, "publish", h.Publish, options{
		"token":    words(&h.Publish.Tokens),
		"jwt":      jwt(&h.Publish.JWT),
		"max_body": size(&h.Publish.MaxBody),
	}, (*publish.Publish).Validate)
}

// jwt parses the block of the tokens that a rule accepts.
func jwt(dst **access.JWT) func(*caddyfile.Dispenser) error {
	return func(d *caddyfile.Dispenser) error {
		if d.NextArg() { // the argument may be a secret
			return d.Errf("jwt takes only a block: write `jwt { key {env.JWT_SECRET} }`, a line for each option")
		}
		j := new(access.JWT)
		*dst = j
		return parseChecked(d, "jwt", j, options{
			"key":      words(&j.Keys),
			"pem":      words(&j.PEM),
			"jwks":     word(&j.JWKS),
			"cookie":   word(&j.Cookie),
			"query":    word(&j.Query),
			"claim":    word(&j.Claim),
			"issuer":   word(&j.Issuer),
			"audience": words(&j.Audience),
		}, (*access.JWT).Validate)
	}
}
