package webhook_test

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

const orders = "arn:aws:sns:us-east-1:123456789012:orders"

// topicService is a fake Amazon SNS: it signs messages, and serves the certificate
// and the URL that confirms a subscription.
type topicService struct {
	*httptest.Server
	private *rsa.PrivateKey

	mu   sync.Mutex
	gets map[string]int
	down bool
	pem  []byte
	hold chan struct{} // while it is there, /slow.pem waits for it
}

func startTopicService(t testing.TB) *topicService {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	s := &topicService{private: private, gets: make(map[string]int)}
	s.certify(t, time.Now().Add(-time.Hour), time.Now().Add(time.Hour))
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *topicService) certify(t testing.TB, from, until time.Time) {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: from, NotAfter: until}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &s.private.PublicKey, s.private)
	if err != nil {
		t.Fatal(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pem = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func (s *topicService) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if strings.HasSuffix(r.URL.Path, "/slow.pem") {
		<-s.hold
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.gets[r.Method+" "+r.URL.RequestURI()]++
	switch {
	case s.down:
		http.Error(w, "down", http.StatusInternalServerError)
	case r.URL.Path == "/cert.pem", r.URL.Path == "/slow.pem", strings.HasPrefix(r.URL.Path, "/other"):
		_, _ = w.Write(s.pem)
	case r.URL.Path == "/moved.pem":
		http.Redirect(w, r, "/cert.pem", http.StatusFound)
	case r.URL.Path == "/confirm":
	default:
		http.NotFound(w, r)
	}
}

func (s *topicService) got(request string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.gets[request]
}

func (s *topicService) set(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

// message returns a message before it is signed.
func (s *topicService) message(kind string) map[string]string {
	m := map[string]string{
		"Type": kind, "MessageId": "165545c9-2a5c-472c-8df2-7ff2be2b3b1b", "TopicArn": orders,
		"Message": "{\"order\":1}", "Timestamp": time.Now().UTC().Format("2006-01-02T15:04:05.000Z"),
		"SignatureVersion": "2", "SigningCertURL": s.URL + "/cert.pem",
	}
	if kind == "Notification" {
		m["Subject"] = "My First Message"
	} else {
		m["Token"], m["SubscribeURL"] = "2336412f37", s.URL+"/confirm?Action=ConfirmSubscription&Token=2336412f37"
	}
	return m
}

// sign signs as docs.aws.amazon.com/sns, "Verifying the signatures of Amazon
// SNS messages", says: the string to sign is written out, not computed.
func (s *topicService) sign(t testing.TB, m map[string]string) string {
	t.Helper()
	var text string
	if m["Type"] == "Notification" {
		text = "Message\n" + m["Message"] + "\nMessageId\n" + m["MessageId"] + "\n"
		if subject, ok := m["Subject"]; ok {
			text += "Subject\n" + subject + "\n"
		}
		text += "Timestamp\n" + m["Timestamp"] + "\nTopicArn\n" + m["TopicArn"] + "\nType\n" + m["Type"] + "\n"
	} else {
		text = "Message\n" + m["Message"] + "\nMessageId\n" + m["MessageId"] + "\nSubscribeURL\n" + m["SubscribeURL"] +
			"\nTimestamp\n" + m["Timestamp"] + "\nToken\n" + m["Token"] + "\nTopicArn\n" + m["TopicArn"] + "\nType\n" + m["Type"] + "\n"
	}
	sum1, sum2 := sha1.Sum([]byte(text)), sha256.Sum256([]byte(text))
	hash, sum := crypto.SHA256, sum2[:]
	if m["SignatureVersion"] == "1" {
		hash, sum = crypto.SHA1, sum1[:]
	}
	signature, err := rsa.SignPKCS1v15(rand.Reader, s.private, hash, sum)
	if err != nil {
		t.Fatal(err)
	}
	m["Signature"] = base64.StdEncoding.EncodeToString(signature)
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func (s *topicService) rule(t testing.TB) *webhook.Webhook {
	t.Helper()
	return verified(t, webhook.Verify{Sender: "sns", Secrets: []string{orders}, Hosts: []string{s.URL}})
}

func snsPost(body string) *http.Request {
	return post("/hooks/sns", body, "Content-Type", "text/plain; charset=UTF-8")
}

func TestSNSMessageIsVerifiedWithItsCertificate(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	for _, version := range []string{"1", "2"} {
		for _, subject := range []bool{true, false} {
			m := s.message("Notification")
			m["SignatureVersion"] = version
			if !subject {
				delete(m, "Subject")
			}
			got := accept(t, wh, snsPost(s.sign(t, m)))
			if got.Event.ID != m["MessageId"] || !strings.Contains(string(got.Event.Data), `"Message":"{\"order\":1}"`) {
				t.Errorf("%+v", got)
			}
			for name := range m {
				forged := map[string]string{}
				for k, v := range m {
					forged[k] = v
				}
				forged[name] += "x"
				changed, err := json.Marshal(forged)
				if err != nil {
					t.Fatal(err)
				}
				if got, err := receive(wh, snsPost(string(changed))); err == nil {
					t.Errorf("%s changed, and taken: %+v", name, got)
				}
			}
		}
	}
	if n := s.got("GET /cert.pem"); n != 1 {
		t.Errorf("the certificate was fetched %d times", n)
	}
}

func TestOnlyURLsOnSendersHostsAreFetched(t *testing.T) {
	s := startTopicService(t)
	elsewhere := startTopicService(t)
	ours := s.rule(t)
	amazons := verified(t, webhook.Verify{Sender: "sns", Secrets: []string{orders}})
	for _, url := range []string{
		elsewhere.URL + "/cert.pem", s.URL + "@" + strings.TrimPrefix(elsewhere.URL, "http://") + "/cert.pem", "https" + strings.TrimPrefix(s.URL, "http") + "/cert.pem",
		"", ":", "file:///etc/passwd", "//" + strings.TrimPrefix(s.URL, "http://") + "/cert.pem",
	} {
		m := s.message("Notification")
		m["SigningCertURL"] = url
		refuse(t, ours, snsPost(s.sign(t, m)), 401, "SigningCertURL is not on a host of the sender's")
	}
	for _, url := range []string{
		s.URL + "/cert.pem", "http://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem", "https://sns.us-east-1.amazonaws.com.evil.example/SimpleNotificationService-0.pem",
		"https://evil.example/sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem", "https://s3.us-east-1.amazonaws.com/SimpleNotificationService-0.pem",
		"https://sns.us-east-1.amazonaws.com/other.pem", "https://sns.us-east-1.amazonaws.com/x/SimpleNotificationService-0.pem",
		"https://sns.us-east-1.amazonaws.com@evil.example/SimpleNotificationService-0.pem", "https://sns.us-east-1.amazonaws.com:8443/SimpleNotificationService-0.pem",
		"https://sns.s3-us-west-2.amazonaws.com/SimpleNotificationService-0.pem", "https://sns.s3-accelerate.amazonaws.com/SimpleNotificationService-0.pem",
		"https://sns.us-west-2.amazonaws.com/SimpleNotificationService-0.pem", "https://sns.us-east-1.amazonaws.com.cn/SimpleNotificationService-0.pem",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem?n=1", "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem?",
		"https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem#1", "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem#",
		"https://sns.a.b.amazonaws.com/SimpleNotificationService-0.pem", "https://sns.us-east-1.amazonaws.com/SimpleNotificationService-0.pem%00",
	} {
		m := s.message("Notification")
		m["SigningCertURL"] = url
		refuse(t, amazons, snsPost(s.sign(t, m)), 401, "SigningCertURL is not on a host of the sender's")
	}
	if n := len(s.gets) + len(elsewhere.gets); n != 0 {
		t.Errorf("%d requests were made", n)
	}
}

func TestUnreachableCertificateMakesSenderRetry(t *testing.T) {
	s := startTopicService(t)
	for _, path := range []string{"/none.pem", "/moved.pem", "/confirm"} {
		m := s.message("Notification")
		m["SigningCertURL"] = s.URL + path
		refuse(t, s.rule(t), snsPost(s.sign(t, m)), 503, "the certificate of the signature can't be fetched; send it again later")
	}
	if n := s.got("GET /cert.pem"); n != 0 {
		t.Error("a redirect was followed")
	}
	wh := s.rule(t)
	s.set(true)
	body := s.sign(t, s.message("Notification"))
	for range 10 {
		refuse(t, wh, snsPost(body), 503, "send it again later")
	}
	if n := s.got("GET /cert.pem"); n != 1 {
		t.Errorf("the module fetched it %d times", n)
	}
	s.set(false)
	s.certify(t, time.Now().Add(-2*time.Hour), time.Now().Add(-time.Hour))
	refuse(t, s.rule(t), snsPost(body), 503, "send it again later")
}

func TestSNSMessageOfOtherTopicOrOldIsRefused(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	for words, change := range map[string]func(map[string]string){
		"of another topic":         func(m map[string]string) { m["TopicArn"] = orders + "2" },
		"more than 1h0m0s ago":     func(m map[string]string) { m["Timestamp"] = time.Now().Add(-61 * time.Minute).Format(time.RFC3339) },
		"more than 1h0m0s ahead":   func(m map[string]string) { m["Timestamp"] = time.Now().Add(62 * time.Minute).Format(time.RFC3339) },
		"not a time":               func(m map[string]string) { m["Timestamp"] = "now" },
		"no messages of this type": func(m map[string]string) { m["Type"] = "notification" },
		"has no MessageId":         func(m map[string]string) { delete(m, "MessageId") },
		"the signature is wrong":   func(m map[string]string) { m["SignatureVersion"] = "3" },
	} {
		m := s.message("Notification")
		change(m)
		refuse(t, wh, snsPost(s.sign(t, m)), 401, words)
	}
	body := s.sign(t, s.message("Notification"))
	forged := `{"Message":"forged",` + body[1:]
	for _, bad := range []string{forged, body[:len(body)-1] + `,"Message":"forged"}`, "[" + body + "]", body + body, "{}", "", "null", strings.Repeat("[", 100_000)} {
		if got, err := receive(wh, snsPost(bad)); err == nil {
			t.Errorf("%.40q was taken: %+v", bad, got)
		}
	}
}

func TestSNSSubscriptionIsConfirmedAtSignedURL(t *testing.T) {
	s := startTopicService(t)
	elsewhere := startTopicService(t)
	wh := s.rule(t)
	const confirm = "GET /confirm?Action=ConfirmSubscription&Token=2336412f37"

	m := s.message("SubscriptionConfirmation")
	body := s.sign(t, m)
	refuse(t, wh, snsPost(strings.Replace(body, "2336412f37", "2336412f38", 1)), 401, "the signature is wrong")
	m["SubscribeURL"] = elsewhere.URL + "/confirm"
	refuse(t, wh, snsPost(s.sign(t, m)), 401, "SubscribeURL is not on a host of the sender's")
	if s.got(confirm) != 0 || len(elsewhere.gets) != 0 {
		t.Error("it was confirmed")
	}
	delivery, err := receiveDelivery(wh, snsPost(body))
	if err != nil || delivery.HandshakeResponse == nil || delivery.HandshakeResponse.Status != 200 || len(delivery.Messages) != 0 || s.got(confirm) != 1 {
		t.Errorf("%+v, %v, %d confirmations", delivery, err, s.got(confirm))
	}
	s.set(true)
	refuse(t, wh, snsPost(body), 503, "the subscription can't be confirmed")
	s.set(false)

	delivery, err = receiveDelivery(wh, snsPost(s.sign(t, s.message("UnsubscribeConfirmation"))))
	if err != nil || delivery.HandshakeResponse == nil || delivery.HandshakeResponse.Status != 200 || s.got(confirm) != 2 {
		t.Errorf("%+v, %v: it was subscribed again", delivery, err)
	}
}

func TestConcurrentMessagesShareOneCertificateFetch(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	var bodies []string
	for i := range 20 {
		m := s.message("Notification")
		m["MessageId"] = fmt.Sprint(i)
		bodies = append(bodies, s.sign(t, m))
	}
	var all sync.WaitGroup
	for _, body := range bodies {
		all.Go(func() {
			if _, err := receive(wh, snsPost(body)); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if n := s.got("GET /cert.pem"); n != 1 {
		t.Errorf("the certificate was fetched %d times", n)
	}
}

// forged returns a message that is valid except for its signature.
func (s *topicService) forged(t testing.TB, path string) *http.Request {
	t.Helper()
	m := s.message("Notification")
	m["SigningCertURL"], m["Signature"] = s.URL+path, "AAAA"
	body, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return snsPost(string(body))
}

func TestFailingCertificateURLDelaysNoOther(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	refuse(t, wh, s.forged(t, "/none.pem"), 503, "send it again later")
	accept(t, wh, snsPost(s.sign(t, s.message("Notification"))))
}

func TestUnprovenCertificatesDisplaceNoProvenOne(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	accept(t, wh, snsPost(s.sign(t, s.message("Notification"))))
	for i := range 40 {
		refuse(t, wh, s.forged(t, fmt.Sprintf("/other%d.pem", i)), 401, "the signature is wrong")
	}
	refuse(t, wh, s.forged(t, "/cert.pem?n=1"), 401, "SigningCertURL is not on a host of the sender's")
	accept(t, wh, snsPost(s.sign(t, s.message("Notification"))))
	if n := s.got("GET /cert.pem"); n != 1 {
		t.Errorf("the certificate was fetched %d times", n)
	}
}

func TestDisconnectingClientCancelsNoFetch(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	s.hold = make(chan struct{})
	m := s.message("Notification")
	m["SigningCertURL"] = s.URL + "/slow.pem"
	body := s.sign(t, m)
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	refuse(t, wh, snsPost(body).WithContext(gone), 503, "send it again later")
	close(s.hold)
	accept(t, wh, snsPost(body))
	if n := s.got("GET /slow.pem"); n != 1 {
		t.Errorf("the certificate was fetched %d times", n)
	}
}

func TestRequestsWaitingForCertificatesAreLimited(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	s.hold = make(chan struct{})
	accept(t, wh, snsPost(s.sign(t, s.message("Notification")))) // its certificate is known
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for i := range 64 {
		r := s.forged(t, fmt.Sprintf("/%d/slow.pem", i))
		refuse(t, wh, r.WithContext(gone), 503, "send it again later")
	}
	_, err := receive(wh, s.forged(t, "/one-more.pem").WithContext(gone)) // a live request would get the same response after ten seconds
	var refused *refusal.Error
	if !errors.As(err, &refused) || refused.Status != 503 || refused.RetryAfter == 0 || !strings.Contains(err.Error(), "too many") {
		t.Errorf("%v", err)
	}
	accept(t, wh, snsPost(s.sign(t, s.message("Notification"))))
	close(s.hold)
}

func TestFailedConfirmationLogsNoToken(t *testing.T) {
	s := startTopicService(t)
	wh := s.rule(t)
	m := s.message("SubscriptionConfirmation")
	accept(t, wh, snsPost(s.sign(t, s.message("Notification")))) // the certificate is known from now on
	body := s.sign(t, m)
	s.CloseClientConnections()
	s.Close()
	_, err := receive(wh, snsPost(body))
	if err == nil || strings.Contains(err.Error(), m["Token"]) || !strings.Contains(err.Error(), "127.0.0.1") {
		t.Errorf("%v", err)
	}
}
