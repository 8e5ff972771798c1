package poll_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/stream"
	"github.com/caddy-sse/caddy-sse/subrequest"
	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestViewersOfRemovedBackendMoveAtOnce(t *testing.T) {
	for name, fails := range map[string]func(e *env){
		"dead":    func(e *env) { e.setError(errRefused) },
		"failing": func(e *env) { e.set(status(http.StatusServiceUnavailable)) },
		"gone":    func(e *env) { e.set(status(http.StatusNotFound)) },
		"refused": func(e *env) { e.set(status(http.StatusForbidden)) },
	} {
		for _, send := range []string{"full", "patch"} {
			within(t, config{}.with(send), func(e *env) {
				old := e.subscribe(newRequest("/doc"))
				now := e.successor(config{}.with(send))
				now.set(document("2"))
				moved := now.subscribe(newRequest("/doc"))
				e.Retire()
				fails(e)
				advance(3 * time.Second)
				if got := old.got(); !old.hasMoved() || slices.Contains(got, "stale") || slices.Contains(got, "gone") {
					t.Errorf("%s, %s: moved: %t, got %q", send, name, old.hasMoved(), got)
				}
				moved.want(t, "2")
				if !e.Done() {
					t.Errorf("%s, %s: it is still polled", send, name)
				}
				now.over()
			})
		}
	}
}

func TestViewersOfFailingBackendMoveOnReload(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		fails, works := e.subscribe(newRequest("/fails")), e.subscribe(newRequest("/works"))
		e.setFunc(func(r *http.Request) (*subrequest.Response, error) {
			if r.URL.Path == "/works" {
				return document("1"), nil
			}
			return nil, errRefused
		})
		advance(3 * time.Second)
		fails.want(t, "1", "stale")
		e.Retire()
		advance(0)
		if !fails.hasMoved() || works.hasMoved() {
			t.Errorf("the viewer of the stale document moved: %t, the other: %t", fails.hasMoved(), works.hasMoved())
		}
	})
}

func TestNewViewerOfRetiredPollerMovesWhenBackendIsGone(t *testing.T) {
	for _, share := range []string{"", "checked"} {
		within(t, poll.Config{Share: share}, func(e *env) {
			e.setError(errRefused)
			e.Retire()
			late := e.subscribe(newRequest("/doc"))
			if !late.hasMoved() || len(late.got()) > 0 {
				t.Errorf("share %q: moved: %t, got %q", share, late.hasMoved(), late.got())
			}
		})
	}
}

// Both configurations poll while the streams move, and an invalidation makes
// both poll at the same moment.
func TestTwoConfigurationsPublishChangeOnce(t *testing.T) {
	within(t, poll.Config{}, func(e *env) {
		stays := e.subscribe(newRequest("/doc"))
		now := e.successor(poll.Config{})
		now.backend = e.backend
		e.Retire()
		want := []string{"1"}
		change := func(n int) {
			want = append(want, fmt.Sprint(n))
			e.set(document(fmt.Sprint(n)))
			if n%2 == 0 {
				e.Invalidate("example.com", "/doc")
				now.Invalidate("example.com", "/doc")
			}
			advance(2100 * time.Millisecond)
		}
		change(2) // nobody has come to the new one
		came := now.subscribe(newRequest("/doc"))
		for n := 3; n < 20; n++ {
			change(n)
		}
		stays.want(t, want...)
		came.want(t, want[1:]...)
		now.over()
	})
}

// Caddy may reject a configuration after it was started and has had viewers.
func TestViewersStayWhenNextConfigurationIsRejected(t *testing.T) {
	for name, leave := range map[string]bool{"while its viewers move": false, "when they have left": true} {
		within(t, poll.Config{}, func(e *env) {
			v := e.subscribe(newRequest("/doc"))
			rejected := e.successor(poll.Config{})
			rejected.set(document(`"rejected"`))
			moves := rejected.subscribe(newRequest("/doc"))
			rejected.Retire()
			if leave {
				moves.leave()
			}
			e.set(document("2"))
			advance(5 * time.Second)
			if got := v.got(); last(got) != "2" {
				t.Errorf("%s: %q", name, got)
			}
			before := len(v.got())
			advance(time.Minute)
			if len(v.got()) != before {
				t.Errorf("%s: it is sent again and again: %q", name, v.got())
			}
			rejected.over()
		})
	}
}

// The next configuration's view has published the document, but the client
// doesn't have it: the client must not receive that position.
func TestViewerMovedBeforeFirstDocumentGetsItFromNextConfiguration(t *testing.T) {
	for name, fails := range map[string]bool{"the old backend answers": false, "it fails": true} {
		within(t, poll.Config{}, func(e *env) {
			e.take(2 * time.Second)
			e.set(document(`"old"`))
			if fails {
				e.setError(errRefused)
			}
			ctx, cancel := context.WithCancel(context.Background()) // of the bubble
			defer cancel()
			answer, ended := httptest.NewRecorder(), make(chan stream.Reason, 1)
			go func() {
				viewing, _, err := e.Subscribe(newRequest("/doc").WithContext(ctx), &caller{backend: e.backend})
				if err != nil {
					t.Error(err)
					return
				}
				defer viewing.Close()
				ended <- stream.Serve(answer, newRequest("/doc").WithContext(ctx), viewing.Source(""), nil, &stream.Options{Heartbeat: time.Minute, Retry: time.Second}).Reason
			}()
			advance(time.Second) // the old one's poll is under way
			now := e.successor(poll.Config{})
			now.set(document(`"new"`))
			now.subscribe(newRequest("/doc")).want(t, `"new"`)
			e.Retire()
			advance(5 * time.Second)
			if len(ended) == 0 {
				t.Fatalf("%s: the stream has not ended: %q", name, answer.Body)
			}
			position := ""
			if _, id, ok := strings.Cut(answer.Body.String(), "id: "); ok {
				position = strings.TrimSpace(id)
			}
			now.resume(newRequest("/doc"), position).want(t, `"new"`)
			now.over()
		})
	}
}

// Only a configuration with a document acquires the topic lease.
func TestFailingNextConfigurationKeepsWorkingOnePublishing(t *testing.T) {
	for name, replaced := range map[string]bool{"before it is in force": false, "when it is": true} {
		within(t, poll.Config{Interval: second}, func(e *env) {
			stays := e.subscribe(newRequest("/doc"))
			now := e.successor(poll.Config{Interval: second})
			now.setError(errRefused)
			now.subscribe(newRequest("/doc"))
			if replaced {
				e.Retire()
			}
			e.set(document("2"))
			advance(25 * time.Second)
			if stays.want(t, "1", "2"); stays.hasMoved() {
				t.Errorf("%s: the viewer was sent to where the backend fails", name)
			}
			now.over()
		})
	}
}

func TestReplacedConfigurationNeverRetakesTopicLease(t *testing.T) {
	within(t, poll.Config{Interval: second, Linger: second}, func(e *env) {
		e.set(document(`"old"`))
		stays := e.subscribe(newRequest("/doc"))
		now := e.successor(poll.Config{Interval: second, Linger: second})
		now.set(document(`"new"`))
		leaving := now.subscribe(newRequest("/doc"))
		e.Retire()
		advance(3 * time.Second)
		leaving.leave()
		advance(5 * time.Second) // the new view has no viewers any more
		again := now.subscribe(newRequest("/doc"))
		advance(3 * time.Second)
		stays.want(t, `"old"`, `"new"`)
		again.want(t, `"new"`)
		again.leave()
		advance(5 * time.Second)
		e.set(document(`"older"`)) // the old configuration must not publish this
		advance(3 * time.Second)
		if stays.want(t, `"old"`, `"new"`); !stays.hasMoved() {
			t.Error("the viewer stays on a view that publishes nothing")
		}
		now.over()
	})
}

func TestSlowResponseToReplacedConfigurationIsDropped(t *testing.T) {
	within(t, poll.Config{Interval: second}, func(e *env) {
		e.set(document(`"old"`))
		e.take(2 * time.Second)
		e.start(newRequest("/doc"), new(caller), "")
		advance(time.Second)
		now := e.successor(poll.Config{Interval: second})
		now.set(document(`"new"`))
		came := now.subscribe(newRequest("/doc"))
		advance(3 * time.Second)
		e.Retire()
		advance(5 * time.Second)
		came.want(t, `"new"`)
		now.over()
	})
}
