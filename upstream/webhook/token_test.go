package webhook_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"

	"github.com/caddy-sse/caddy-sse/internal/refusal"
	"github.com/caddy-sse/caddy-sse/upstream/webhook"
)

// unread is a body that fails the test if anything reads it.
type unread struct{ t testing.TB }

func (u unread) Read([]byte) (int, error) {
	u.t.Error("the body was read")
	return 0, io.EOF
}

func TestBodyIsNotReadIfHeadersFailVerification(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("pass"), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	for words, verify := range map[string]webhook.Verify{
		"the token is wrong":            {Sender: "token", Header: "Authorization", Secrets: []string{"k"}},
		"not of the kind Basic":         {Sender: "basic", User: "ann", Secrets: []string{string(hash)}},
		"the token is wrong ":           {Sender: "cloudevents", Secrets: []string{"k"}},
		"header X-Gitlab-Token missing": {Sender: "gitlab", Secrets: []string{"k"}},
	} {
		r := post("/t", "")
		r.Header.Set("Authorization", "Bearer x")
		r.Body, r.ContentLength = io.NopCloser(unread{t}), -1
		refuse(t, verified(t, verify), r, 401, strings.TrimSpace(words))
	}
}

func basic(user, pass string) *http.Request {
	r := post("/t", "x")
	r.SetBasicAuth(user, pass)
	return r
}

func TestPasswordGuessesTakeNoSlotOfKnownUser(t *testing.T) {
	hash, err := bcrypt.GenerateFromPassword([]byte("right"), bcrypt.MinCost+4)
	if err != nil {
		t.Fatal(err)
	}
	wh := verified(t, webhook.Verify{Sender: "basic", User: "ann", Secrets: []string{string(hash)}})
	// flood sends many guesses at once and returns how many were refused as too many.
	flood := func(user string, meanwhile func()) (full int) {
		var mu sync.Mutex
		var all sync.WaitGroup
		for range 40 {
			all.Go(func() {
				_, err := receive(wh, basic(user, "wrong"))
				var refused *refusal.Error
				if !errors.As(err, &refused) {
					t.Errorf("%v", err)
				} else if refused.Status == http.StatusServiceUnavailable && refused.RetryAfter >= time.Second {
					mu.Lock()
					full++
					mu.Unlock()
				}
			})
		}
		meanwhile()
		all.Wait()
		return full
	}
	if full := flood("nobody", func() { accept(t, wh, basic("ann", "right")) }); full == 0 {
		t.Error("the module waited for all 40 guesses")
	}
	// A remembered password waits in no queue.
	if full := flood("ann", func() { accept(t, wh, basic("ann", "right")) }); full == 0 {
		t.Error("all of 40 guesses were waited for")
	}
}

func TestBothPasswordsAreRememberedDuringRotation(t *testing.T) {
	var hashes []string
	for _, pass := range []string{"new", "old"} {
		hash, err := bcrypt.GenerateFromPassword([]byte(pass), 9)
		if err != nil {
			t.Fatal(err)
		}
		hashes = append(hashes, string(hash))
	}
	wh := verified(t, webhook.Verify{Sender: "basic", User: "ann", Secrets: hashes})
	began := time.Now()
	accept(t, wh, basic("ann", "old")) // compares it with both hashes
	accept(t, wh, basic("ann", "new"))
	slow := time.Since(began)
	began = time.Now()
	for range 5 {
		accept(t, wh, basic("ann", "old"))
		accept(t, wh, basic("ann", "new"))
	}
	if quick := time.Since(began); quick > slow {
		t.Errorf("it took %v to compare both once, and %v to do it again", slow, quick)
	}
}
