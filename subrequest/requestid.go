package subrequest

import (
	"slices"
	"strings"
)

// requestIDs are the headers with which proxies, content delivery networks and
// tracing number a single request, or note when it came. They say nothing about
// who asks.
var requestIDs = setOf(
	// W3C Trace Context and Baggage, OpenTracing, B3, Jaeger.
	"Traceparent", "Tracestate", "Baggage", "B3", "Uber-Trace-Id", "Ot-Tracer-Traceid", "Ot-Tracer-Spanid", "Ot-Tracer-Sampled", "X-Ot-Span-Context",
	// Tracing by vendors: Sentry, New Relic, Elastic, Instana, SkyWalking, Dynatrace, Honeycomb, Application Insights.
	"Sentry-Trace", "Newrelic", "Elastic-Apm-Traceparent", "X-Instana-T", "X-Instana-S", "X-Instana-L", "Sw8", "Sw8-Correlation", "Sw8-X",
	"X-Dynatrace", "X-Honeycomb-Trace", "Request-Id", "Request-Context", "Correlation-Id", "Correlation-Context", "X-Trace", "Trace-Id", "Grpc-Trace-Bin",
	// Amazon, Google, Azure.
	"X-Amzn-Trace-Id", "X-Amzn-Requestid", "X-Amz-Cf-Id", "X-Cloud-Trace-Context", "Function-Execution-Id", "X-Appengine-Request-Log-Id", "X-Appengine-Request-Id-Hash",
	"X-Azure-Ref", "X-Azure-Requestchain", "X-Arr-Log-Id",
	// Cloudflare, Fastly, Akamai, Fly, Vercel, Render, Tencent, Bunny, Alibaba.
	"Cf-Ray", "Cf-Ew-Via", "X-Timer", "Fastly-Ff", "X-Akamai-Grn", "Akamai-Grn", "Fly-Traceparent", "Fly-Tracestate", "X-Vercel-Id", "Rndr-Id",
	"X-Nws-Log-Uuid", "Eo-Log-Uuid", "Cdn-Requestid", "Eagleeye-Traceid",
	// Envoy, Varnish, and routers that note the time or the tries.
	"X-Envoy-Attempt-Count", "X-Envoy-Expected-Rq-Timeout-Ms", "X-Varnish", "X-Request-Start", "X-Queue-Start", "X-Client-Port",
)

// requestIDPrefixes and requestIDSuffixes are those of further names.
var (
	requestIDPrefixes = []string{"X-B3-", "X-Datadog-", "Ot-Tracer-"}
	requestIDSuffixes = []string{
		"-Request-Id", "-Requestid", "-Trace-Id", "-Traceid", "-Span-Id", "-Spanid", "-Correlation-Id", "-Correlationid", "-Request-Uuid", "-Trace-Context",
	}
)

// IsRequestID reports whether a header tells only which request it is: by a known
// name, or by a pattern such as X-B3-* and *-Request-Id. A name that may be a
// credential's matches no pattern. The name must be in its canonical form.
func IsRequestID(name string) bool {
	switch {
	case requestIDs[name]:
		return true
	case MayBeCredential(name):
		return false
	}
	return slices.ContainsFunc(requestIDPrefixes, func(p string) bool { return strings.HasPrefix(name, p) }) ||
		slices.ContainsFunc(requestIDSuffixes, func(s string) bool { return strings.HasSuffix(name, s) })
}

// credentialWords are parts of the names of headers that may tell who asks.
var credentialWords = []string{
	"auth", "token", "key", "secret", "session", "cookie", "cred", "pass", "sign", "jwt", "saml", "bearer", "assertion", "csrf", "xsrf",
	"user", "account", "tenant", "customer", "member", "owner", "admin", "login", "person", "email", "mail", "ident", "subject", "principal", "group", "role", "scope", "organi", "workspace",
}

// shortCredentialWords count only as whole words: many other words contain them.
var shortCredentialWords = setOf("sid", "uid", "org", "sso", "pin", "otp", "mfa")

// MayBeCredential reports whether a header's name suggests that its value tells
// who asks.
func MayBeCredential(name string) bool {
	name = strings.ToLower(name)
	if slices.ContainsFunc(credentialWords, func(word string) bool { return strings.Contains(name, word) }) {
		return true
	}
	for word := range strings.SplitSeq(name, "-") {
		if shortCredentialWords[word] {
			return true
		}
	}
	return false
}

func setOf(names ...string) map[string]bool {
	set := make(map[string]bool, len(names))
	for _, name := range names {
		set[name] = true
	}
	return set
}
