package main

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// secretVariable is the environment variable with the secret that signs webhooks.
const secretVariable = "PETSTORE_WEBHOOK_SECRET"

const (
	webhookQueue    = 256             // waiting notifications
	webhookAttempts = 4               // per notification
	webhookTimeout  = 5 * time.Second // for one attempt
	webhookBackoff  = time.Second / 2 // before the second attempt; doubles from there
)

// Notification is the body of a webhook in the form of Standard Webhooks.
type Notification struct {
	Type      string           `json:"type"`
	Timestamp time.Time        `json:"timestamp"`
	Data      NotificationData `json:"data"`
}

// NotificationData is a message about an order for a user.
type NotificationData struct {
	UserID  string `json:"userId"`
	OrderID string `json:"orderId"`
	Message string `json:"message"`
}

// Notifier delivers notifications to one URL, in order, signed as
// https://www.standardwebhooks.com says.
type Notifier struct {
	url    string
	secret []byte
	client *http.Client
	queue  chan Notification
}

// NewNotifier returns a notifier, which delivers while Run runs.
func NewNotifier(url string, secret []byte) *Notifier {
	return &Notifier{
		url:    url,
		secret: secret,
		queue:  make(chan Notification, webhookQueue),
		client: &http.Client{
			Timeout: webhookTimeout,
			// A redirect would turn the POST into a GET.
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
	}
}

// parseSecret decodes a secret of the form whsec_<base64>. An empty text is no
// error: there is no secret.
func parseSecret(text string) ([]byte, error) {
	if text == "" {
		return nil, nil
	}
	encoded, ok := strings.CutPrefix(text, "whsec_")
	secret, err := base64.StdEncoding.DecodeString(encoded)
	if !ok || err != nil || len(secret) == 0 {
		return nil, errors.New(secretVariable + " must be whsec_ followed by Base64")
	}
	return secret, nil
}

// Send queues a notification. It never blocks, because an order must not wait for a
// receiver: it drops the notification if the queue is full.
func (n *Notifier) Send(notification Notification) {
	select {
	case n.queue <- notification:
	default:
		log.Printf("petstore: webhook queue is full, dropped %s of %s", notification.Type, notification.Data.OrderID)
	}
}

// Run delivers the queued notifications until ctx ends.
func (n *Notifier) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case notification := <-n.queue:
			if err := n.deliver(ctx, notification); err != nil && ctx.Err() == nil {
				log.Printf("petstore: webhook %s of %s: %v", notification.Type, notification.Data.OrderID, err)
			}
		}
	}
}

// deliver makes up to webhookAttempts attempts. All have the same id, by which a
// receiver recognizes a repeated one.
func (n *Notifier) deliver(ctx context.Context, notification Notification) error {
	body, err := json.Marshal(notification)
	if err != nil {
		return err
	}
	id := "msg_" + rand.Text()
	backoff := webhookBackoff
	for attempt := 1; ; attempt++ {
		err := n.post(ctx, id, body)
		if err == nil || attempt == webhookAttempts {
			return err
		}
		if err := pause(ctx, backoff); err != nil {
			return err
		}
		backoff *= 2
	}
}

// post makes one attempt. Any status other than 2xx is a failure.
func (n *Notifier) post(ctx context.Context, id string, body []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	timestamp := strconv.FormatInt(time.Now().Unix(), 10)
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "petstore")
	req.Header.Set("Webhook-Id", id)
	req.Header.Set("Webhook-Timestamp", timestamp)
	req.Header.Set("Webhook-Signature", sign(n.secret, id, timestamp, body))
	res, err := n.client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	_, _ = io.CopyN(io.Discard, res.Body, 4<<10) // so that the connection can be reused
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return fmt.Errorf("the receiver responded %s", res.Status)
	}
	return nil
}

// sign returns the signature header: the version of the scheme, and the
// HMAC-SHA256 of id.timestamp.body.
func sign(secret []byte, id, timestamp string, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	_, _ = fmt.Fprintf(mac, "%s.%s.%s", id, timestamp, body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
