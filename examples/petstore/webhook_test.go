package main

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// receiver is a fake receiver of webhooks: it responds with its statuses in turn,
// then with 204, and records the requests.
type receiver struct {
	statuses []int
	got      []received
}

type received struct {
	at     time.Time
	header http.Header
	body   string
}

func (r *receiver) RoundTrip(req *http.Request) (*http.Response, error) {
	body, err := io.ReadAll(req.Body)
	r.got = append(r.got, received{time.Now(), req.Header, string(body)})
	status := http.StatusNoContent
	if len(r.statuses) > 0 {
		status, r.statuses = r.statuses[0], r.statuses[1:]
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Body: http.NoBody}, err
}

// notifierTo returns a notifier that sends to r.
func notifierTo(r *receiver) *Notifier {
	n := NewNotifier("http://receiver.test/hooks", []byte("a secret"))
	n.client.Transport = r
	return n
}

// notificationAbout returns a notification about an order.
func notificationAbout(orderID string) Notification {
	return Notification{Type: "order.shipped", Data: NotificationData{UserID: "alice", OrderID: orderID}}
}

func TestWebhookSignatureMatchesStandardExample(t *testing.T) {
	// The example of https://github.com/standard-webhooks/standard-webhooks.
	secret, err := parseSecret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
	if err != nil {
		t.Fatal(err)
	}
	got := sign(secret, "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", []byte(`{"test": 2432232314}`))
	if want := "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="; got != want {
		t.Errorf("signature is %s, want %s", got, want)
	}
}

func TestInvalidSecretIsRefused(t *testing.T) {
	for _, text := range []string{"c2VjcmV0", "whsec_", "whsec_secret!"} {
		if _, err := parseSecret(text); err == nil {
			t.Errorf("%q was accepted", text)
		}
	}
}

func TestWebhookCarriesNotification(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var target receiver
		notifier := notifierTo(&target)
		if err := notifier.deliver(t.Context(), notificationAbout("o-7")); err != nil {
			t.Fatal(err)
		}
		got := target.got[0]
		want := sign(notifier.secret, got.header.Get("webhook-id"), got.header.Get("webhook-timestamp"), []byte(got.body))
		if got.header.Get("webhook-signature") != want {
			t.Errorf("signature is %q, want %q", got.header.Get("webhook-signature"), want)
		}
		var body Notification
		if err := json.Unmarshal([]byte(got.body), &body); err != nil || body != notificationAbout("o-7") {
			t.Errorf("body is %s, error is %v", got.body, err)
		}
	})
}

func TestRetryRepeatsSameMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := receiver{statuses: []int{http.StatusBadGateway, http.StatusFound}}
		if err := notifierTo(&target).deliver(t.Context(), notificationAbout("o-7")); err != nil {
			t.Fatal(err)
		}
		if len(target.got) != 3 {
			t.Fatalf("it took %d attempts", len(target.got))
		}
		first, last := target.got[0], target.got[2]
		if first.header.Get("webhook-id") != last.header.Get("webhook-id") || first.body != last.body {
			t.Error("the last attempt was another message")
		}
		if got, want := last.at.Sub(first.at), webhookBackoff+2*webhookBackoff; got != want {
			t.Errorf("it waited %s, want %s", got, want)
		}
	})
}

func TestNotifierGivesUpAfterFourAttempts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := receiver{statuses: []int{500, 500, 500, 500, 500}}
		if err := notifierTo(&target).deliver(t.Context(), notificationAbout("o-7")); err == nil {
			t.Error("there was no error")
		}
		if len(target.got) != webhookAttempts {
			t.Errorf("it took %d attempts", len(target.got))
		}
	})
}

func TestWebhooksArriveInOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := receiver{statuses: []int{http.StatusBadGateway}}
		notifier := notifierTo(&target)
		ctx, cancel := context.WithCancel(t.Context())
		go notifier.Run(ctx)
		notifier.Send(notificationAbout("o-1"))
		notifier.Send(notificationAbout("o-2"))

		time.Sleep(time.Second)
		synctest.Wait()
		cancel()
		if len(target.got) != 3 || !strings.Contains(target.got[2].body, "o-2") {
			t.Errorf("got %+v", target.got)
		}
	})
}

func TestNotifierStopsDuringRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		target := receiver{statuses: []int{500, 500, 500, 500}}
		notifier := notifierTo(&target)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() {
			notifier.Run(ctx)
			close(ended)
		}()
		notifier.Send(notificationAbout("o-1"))
		synctest.Wait()
		cancel()
		<-ended
		if len(target.got) != 1 {
			t.Errorf("it made %d attempts", len(target.got))
		}
	})
}

func TestFullQueueNeverBlocksSend(t *testing.T) {
	notifier := NewNotifier("http://receiver.test/hooks", []byte("a secret"))
	for range webhookQueue + 1 {
		notifier.Send(notificationAbout("o-1"))
	}
	if len(notifier.queue) != webhookQueue {
		t.Errorf("%d notifications are queued", len(notifier.queue))
	}
}
