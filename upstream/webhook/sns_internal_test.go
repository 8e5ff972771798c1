package webhook

import (
	"crypto/x509"
	"net/url"
	"strconv"
	"testing"
	"time"
)

func TestSNSHostIsInTopicsRegion(t *testing.T) {
	for topic, host := range map[string]string{
		"arn:aws:sns:us-east-1:123456789012:orders":            "sns.us-east-1.amazonaws.com",
		"arn:aws:sns:us-east-1:123456789012:orders.fifo":       "sns.us-east-1.amazonaws.com",
		"arn:aws-us-gov:sns:us-gov-west-1:123456789012:orders": "sns.us-gov-west-1.amazonaws.com",
		"arn:aws-cn:sns:cn-north-1:123456789012:orders":        "sns.cn-north-1.amazonaws.com.cn",
	} {
		s, err := newSNS([][]byte{[]byte(topic)}, nil, time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		for _, field := range []string{"SigningCertURL", "SubscribeURL"} {
			for other, want := range map[string]bool{
				host: true, "sns.s3-us-west-2.amazonaws.com": false, "sns.s3-accelerate.amazonaws.com": false, "sns.eu-west-1.amazonaws.com": false,
				host + ".cn": false, host + ":443": false, "x@" + host: false,
			} {
				message := map[string]string{"TopicArn": topic, field: "https://" + other + "/SimpleNotificationService-a.pem"}
				if _, ok := s.url(message, field); ok != want {
					t.Errorf("%s: %s: %v", field, message[field], ok)
				}
			}
		}
	}
	for _, topic := range []string{"orders", "arn:aws:sqs:us-east-1:1:o", "arn:aws:sns:s3-accelerate:1:o", "arn:aws:sns:us-east-1.evil:1:o", "arn:aws:sns::1:o"} {
		if err := (&Verify{Sender: "sns", Secrets: []string{topic}}).Validate(); err == nil {
			t.Errorf("%s was taken", topic)
		}
	}
}

// A sender that proves many certificates makes the module keep no more of them.
func TestProvenCertificatesAreBoundedAndTheOldestGoes(t *testing.T) {
	c := newCertificates(nil)
	at := time.Unix(1e9, 0)
	for i := range 3 * maxCertificates {
		source := &url.URL{Scheme: "https", Host: "sns.us-east-1.amazonaws.com", Path: "/" + strconv.Itoa(i)}
		c.setProven(source, &x509.Certificate{NotAfter: at.Add(time.Duration(i) * time.Hour)})
		if len(c.proven) > maxCertificates || c.proven[source.String()] == nil {
			t.Fatalf("%d certificates are kept, and the newest is %v", len(c.proven), c.proven[source.String()])
		}
	}
	if c.proven["https://sns.us-east-1.amazonaws.com/"+strconv.Itoa(2*maxCertificates)] == nil {
		t.Error("another certificate than the oldest is gone")
	}
}
