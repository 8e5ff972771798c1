package webhook

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
)

// snsTolerance is the default tolerance for the time of a message's publication.
// Amazon SNS retries for about that long.
const snsTolerance = caddy.Duration(time.Hour)

const (
	// fetchTimeout limits one request to the sender's hosts.
	fetchTimeout = 10 * time.Second
	// maxFetched limits the size of its response. A certificate has about 2 KiB.
	maxFetched = 64 << 10
)

var (
	// snsTopic matches the name of a topic, with its partition and region.
	snsTopic = regexp.MustCompile(`^arn:(aws|aws-cn|aws-us-gov):sns:([a-z]{2,3}(?:-[a-z]+)+-[0-9]+):[0-9]+:[^:]+$`)
	snsCert  = regexp.MustCompile(`^/SimpleNotificationService-[0-9a-zA-Z]{1,64}\.pem$`)
)

// sns is a checker of Amazon SNS's messages. A message holds its own signature
// and the URL of the certificate.
type sns struct {
	topics    secrets
	origins   []string // the allowed origins; empty for SNS's own
	tolerance time.Duration
	client    *http.Client

	*certificates
}

func newSNS(topics [][]byte, hosts []string, tolerance time.Duration) (*sns, error) {
	origins, err := parseHosts(hosts)
	if err != nil {
		return nil, err
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // it sends a request once in months
	s := &sns{
		topics: newSecrets(topics), origins: origins, tolerance: tolerance,
		client: &http.Client{
			Transport: transport,
			Timeout:   fetchTimeout,
			// A redirect could lead anywhere, into a private network for example.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
	s.certificates = newCertificates(s.get)
	return s, nil
}

// checkTopicName returns an error if name isn't the name of a topic. A rule with
// its own hosts accepts every ARN.
func checkTopicName(name string, hosts []string) error {
	if len(hosts) == 0 && snsHost(name) == "" || !strings.HasPrefix(name, "arn:") {
		return errors.New("it is not the name of a topic: write for example `arn:aws:sns:us-east-1:123456789012:orders`")
	}
	return nil
}

// snsHost returns the host of Amazon SNS in a topic's region, or an empty text if
// the name is not a topic's. Only exact names are safe: anyone who has a bucket
// called sns controls `sns.s3-us-west-2.amazonaws.com`.
func snsHost(topic string) string {
	match := snsTopic.FindStringSubmatch(topic)
	switch {
	case match == nil:
		return ""
	case match[1] == "aws-cn":
		return "sns." + match[2] + ".amazonaws.com.cn"
	}
	return "sns." + match[2] + ".amazonaws.com"
}

// parseHosts returns origins. The default scheme is HTTPS.
func parseHosts(hosts []string) (origins []string, err error) {
	for _, host := range hosts {
		scheme, name, ok := strings.Cut(host, "://")
		if !ok {
			scheme, name = "https", host
		}
		if scheme != "https" && scheme != "http" || name == "" || strings.ContainsAny(name, "/?#@ {}") {
			return nil, fmt.Errorf("%q is not a host: write for example `hosts sns.us-east-1.amazonaws.com`", host)
		}
		origins = append(origins, strings.ToLower(scheme+"://"+name))
	}
	return origins, nil
}

// check fetches the certificate last, and only for a message that could be for
// this rule.
func (s *sns) check(r *request) *refusal.Error {
	message, err := uniqueTexts(r.raw)
	if err != nil {
		return unauthorized("the body is not a message of Amazon SNS: %v", err)
	}
	if !s.topics.have(message["TopicArn"]) {
		return detailed(unauthorized("the message is of another topic"),
			fmt.Sprintf("the message's TopicArn is none of the rule's %s", some(len(s.topics), "topic")))
	}
	signed, err := snsSigned(message)
	if err != nil {
		return unauthorized("%v", err)
	}
	published, err := time.Parse(time.RFC3339, message["Timestamp"])
	if err != nil {
		return unauthorized("the message's Timestamp is not a time")
	}
	if refused := checkAge(published, s.tolerance); refused != nil {
		return refused
	}
	source, ok := s.certificateURL(message)
	if !ok {
		return unauthorized("the message's SigningCertURL is not on a host of the sender's")
	}
	certificate, err := s.certificate(r.Context(), source)
	if err != nil {
		return s.unreachable("the certificate of the signature can't be fetched; send it again later", err)
	}
	if !isSignedBy(certificate, message, signed) {
		return wrongSignature("the message's signature is not that of its certificate")
	}
	s.setProven(source, certificate)
	return nil
}

func (s *sns) unreachable(reason string, err error) *refusal.Error {
	return &refusal.Error{Status: http.StatusServiceUnavailable, Reason: reason, RetryAfter: 5 * time.Second, Err: err}
}

// uniqueTexts returns the members of an object that are strings. A key that comes
// twice is an error: another reader could take the value that isn't signed.
func uniqueTexts(body []byte) (map[string]string, error) {
	body = bytes.TrimPrefix(body, []byte(byteOrderMark))
	dec := json.NewDecoder(bytes.NewReader(body))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("it is not a JSON object")
	}
	texts, seen := make(map[string]string), make(map[string]bool)
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, errors.New("it is not a JSON object")
		}
		var value any
		if err := dec.Decode(&value); err != nil {
			return nil, errors.New("it is not a JSON object")
		}
		if seen[name.(string)] {
			return nil, errors.New("a member comes twice")
		}
		seen[name.(string)] = true
		if text, ok := value.(string); ok {
			texts[name.(string)] = text
		}
	}
	if !json.Valid(body) {
		return nil, errors.New("it is not a JSON object")
	}
	return texts, nil
}

// snsFields are the signed fields of each type of message, in order.
var snsFields = map[string][]string{
	"Notification":             {"Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type"},
	"SubscriptionConfirmation": {"Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"},
	"UnsubscribeConfirmation":  {"Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type"},
}

// snsSigned returns the signed text of a message: its fields, each with its name.
// Only the subject may be missing.
func snsSigned(message map[string]string) ([]byte, error) {
	fields := snsFields[message["Type"]]
	if fields == nil {
		return nil, errors.New("there are no messages of this type in Amazon SNS")
	}
	var signed []byte
	for _, name := range fields {
		value, ok := message[name]
		if !ok && name == "Subject" {
			continue
		}
		if !ok {
			return nil, fmt.Errorf("the message has no %s", name)
		}
		signed = append(append(append(append(signed, name...), '\n'), value...), '\n')
	}
	return signed, nil
}

func isSignedBy(certificate *x509.Certificate, message map[string]string, signed []byte) bool {
	public, ok := certificate.PublicKey.(*rsa.PublicKey)
	signature, err := base64.StdEncoding.DecodeString(message["Signature"])
	if !ok || err != nil {
		return false
	}
	switch message["SignatureVersion"] {
	case "1":
		sum := sha1.Sum(signed)
		return rsa.VerifyPKCS1v15(public, crypto.SHA1, sum[:], signature) == nil
	case "2":
		sum := sha256.Sum256(signed)
		return rsa.VerifyPKCS1v15(public, crypto.SHA256, sum[:], signature) == nil
	}
	return false
}

// url parses the URL in a field. It returns false unless the URL is on one of
// the sender's hosts.
func (s *sns) url(message map[string]string, field string) (*url.URL, bool) {
	raw := message[field]
	u, err := url.Parse(raw)
	if err != nil || u.User != nil || len(raw) > 2048 || strings.Contains(raw, "#") {
		return nil, false
	}
	if len(s.origins) > 0 {
		return u, slices.Contains(s.origins, u.Scheme+"://"+strings.ToLower(u.Host))
	}
	host := snsHost(message["TopicArn"])
	return u, u.Scheme == "https" && host != "" && u.Host == host
}

// certificateURL returns the URL of the message's certificate. It returns false
// for a URL with a query, which would give one certificate any number of URLs.
func (s *sns) certificateURL(message map[string]string) (*url.URL, bool) {
	u, ok := s.url(message, "SigningCertURL")
	if !ok || u.RawQuery != "" || u.ForceQuery {
		return nil, false
	}
	return u, len(s.origins) > 0 || snsCert.MatchString(u.EscapedPath())
}

// get fetches a URL. Its errors name only the host: a URL may hold a token.
func (s *sns) get(ctx context.Context, u *url.URL) ([]byte, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, withoutURL(u, err)
	}
	resp, err := s.client.Do(r)
	if err != nil {
		return nil, withoutURL(u, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s responded with %s", u.Host, resp.Status)
	}
	content, err := io.ReadAll(io.LimitReader(resp.Body, maxFetched+1))
	if err == nil && len(content) > maxFetched {
		err = fmt.Errorf("%s responded with more than %d bytes", u.Host, maxFetched)
	}
	return content, err
}

func withoutURL(u *url.URL, err error) error {
	var failed *url.Error
	if errors.As(err, &failed) {
		err = failed.Err
	}
	return fmt.Errorf("%s: %w", u.Host, err)
}

// snsConfirmation confirms a subscription by a GET of the signed URL, which must
// be on one of the sender's hosts. It ignores the URL of an unsubscription:
// fetching that one would subscribe again.
func snsConfirmation(v *verifier, r *request) (*HandshakeResponse, *refusal.Error) {
	message, err := uniqueTexts(r.content.body)
	if err != nil {
		return nil, nil
	}
	switch message["Type"] {
	case "UnsubscribeConfirmation":
		return &HandshakeResponse{Status: http.StatusOK}, nil
	case "SubscriptionConfirmation":
	default:
		return nil, nil
	}
	u, ok := v.sns.url(message, "SubscribeURL")
	if !ok {
		return nil, unauthorized("the message's SubscribeURL is not on a host of the sender's")
	}
	if _, err := v.sns.get(r.Context(), u); err != nil {
		return nil, v.sns.unreachable("the subscription can't be confirmed; send it again later", err)
	}
	return &HandshakeResponse{Status: http.StatusOK}, nil
}
