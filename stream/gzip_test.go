package stream_test

import (
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddy-sse/caddy-sse/event"
	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/internal/signal"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

func withGzip(o stream.Options) stream.Options {
	o.Gzip = true
	return o
}

func getGzip(target string) *http.Request {
	r := get(target)
	r.Header.Set("Accept-Encoding", "gzip, deflate, br, zstd")
	return r
}

// document returns JSON of about n bytes that compression shortens to a third or less.
func document(n int) string {
	var b strings.Builder
	b.WriteString(`{"orders":[`)
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"id":%d,"status":"shipped","customer":"Ada Lovelace"},`, i)
	}
	return strings.TrimSuffix(b.String(), ",") + "]}"
}

// noise returns text of n bytes that compression doesn't shorten by much.
func noise(n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(' ' + rand.IntN(95))
	}
	return string(b)
}

// gunzip returns the text of a complete body, and fails if there is more than one
// member.
func gunzip(t testing.TB, body string) string {
	t.Helper()
	text, err := tryGunzip(body)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func tryGunzip(body string) (string, error) {
	rest := strings.NewReader(body)
	r, err := gzip.NewReader(rest)
	if err != nil {
		return "", err
	}
	r.Multistream(false)
	text, err := io.ReadAll(r)
	if err == nil && rest.Len() > 0 {
		err = fmt.Errorf("%d bytes follow", rest.Len())
	}
	return string(text), err
}

func decodeAll(t testing.TB, text string) (events []event.Event) {
	t.Helper()
	d := eventtest.NewDecoder(strings.NewReader(text), 0)
	for {
		e, err := d.Next()
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Fatal(err)
		}
		events = append(events, e)
	}
}

func TestGzipIsSentToClientsThatAcceptIt(t *testing.T) {
	for accept, want := range map[string]bool{
		"gzip":                               true,
		"gzip, deflate, br, zstd":            true, // browsers
		"deflate, GZIP;q=0.5":                true,
		"x-gzip":                             true, // RFC 9110 §8.4.1.3
		"*":                                  true,
		"*;q=0.1":                            true,
		"br, *":                              true,
		"gzip;q=0.5, identity;q=0.5":         true,
		"gzip;q=0":                           false,
		"gzip;q=0, *":                        false,
		"*;q=0":                              false,
		"identity":                           false,
		"identity, gzip;q=0.5":               false,
		"br, zstd":                           false,
		"":                                   false,
		strings.Repeat("x,", 2000) + " gzip": false, // beyond the bytes that are parsed
	} {
		r := get("/")
		if accept != "" {
			r.Header.Set("Accept-Encoding", accept)
		}
		o := withGzip(options)
		w := httptest.NewRecorder()
		stream.WriteHeader(w, r, &o)
		if got := w.Header().Get("Content-Encoding") == "gzip"; got != want {
			t.Errorf("%q: gzip is %v", accept, got)
		}
		if w.Header().Get("Vary") != "Accept-Encoding" {
			t.Errorf("%q: Vary is %q", accept, w.Header()["Vary"])
		}
	}
	w := httptest.NewRecorder()
	stream.WriteHeader(w, getGzip("/"), &options)
	if w.Header().Get("Content-Encoding") != "" || w.Header().Get("Vary") != "" {
		t.Errorf("without the option: %v", w.Header())
	}
}

// TestGzipStreamIsOneMember has each kind of write: the first events, small and large
// events, several at once, envelopes, heartbeats, a position and the end.
func TestGzipStreamIsOneMember(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			h, group := newHub(t, store.History{}), new(stream.Group)
			src := stream.Subscribe(h, []string{"a"}, "lost")
			initial := document(300_000)
			frame, err := eventOf(initial).Encode()
			if err != nil {
				t.Fatal(err)
			}
			src.Initial = append(src.Initial, &store.Entry{Frame: frame}, &store.Entry{Frame: frame})
			if wrapped {
				src.Wrap = new(stream.Envelopes).ForTopics([]string{"a"})
			}
			s := serve(src, getGzip("/"), group, withGzip(options), newClient())
			synctest.Wait()
			sent := []string{"1", document(1000), noise(1000), "", document(100_000), noise(100_000)}
			for _, data := range sent {
				publish(t, h, data, "a")
				synctest.Wait()
			}
			for i := range 300 {
				publish(t, h, document(10*i), "a")
			}
			synctest.Wait()
			time.Sleep(time.Minute) // heartbeats
			group.Exit()
			s.wantEnd(t, stream.ShutDown)
			body := s.since(0)
			events := decodeAll(t, gunzip(t, body))
			if len(events) != 3+len(sent)+300 || string(events[2].Data) != initial {
				t.Fatalf("%d events", len(events))
			}
			if s.summary.Bytes != int64(len(body)) || s.summary.Events != len(events) {
				t.Errorf("%+v of %d bytes and %d events", s.summary, len(body), len(events))
			}
			for i, data := range sent {
				if got := string(events[3+i].Data); !wrapped && got != data || wrapped && !strings.Contains(got, `"topic":"a"`) {
					t.Errorf("event %d: %.100q", i, got)
				}
			}
		})
	}
}

func TestEventIsCompressedOnceForAllStreams(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		var streams []*session
		for range 3 {
			streams = append(streams, serve(stream.Subscribe(h, []string{"a"}, ""), getGzip("/"), nil, withGzip(options), newClient()))
		}
		plain := serve(stream.Subscribe(h, []string{"a", "b"}, ""), get("/"), nil, withGzip(options), newClient())
		synctest.Wait()
		unread := publish(t, h, document(1000), "b")
		e := publish(t, h, document(1000), "a")
		synctest.Wait()
		block := e.Gzipped()
		if block == nil || len(block.Bytes()) > len(e.Frame)/2 {
			t.Fatalf("the block is %v", block)
		}
		for _, s := range streams {
			if writes := s.all(); writes[len(writes)-1].data != string(block.Bytes()) {
				t.Error("the bytes are not those of the block")
			}
			s.disconnect()
			s.wantEnd(t, stream.ClientLeft)
		}
		if got := plain.since(1); got != string(unread.Frame)+string(e.Frame) {
			t.Errorf("a client that asks for no gzip receives %.50q", got)
		}
		plain.disconnect()
		plain.wantEnd(t, stream.ClientLeft)
	})
}

// TestGzipStreamThatIsEndedIsWhole also when the client may receive no more events.
func TestGzipStreamThatIsEndedIsWhole(t *testing.T) {
	for _, reason := range []stream.Reason{stream.Revoked, stream.Stopped, stream.Expired} {
		synctest.Test(t, func(t *testing.T) {
			h, group := newHub(t, store.History{}), new(stream.Group)
			src := stream.Subscribe(h, []string{"a"}, "")
			src.Revoked, src.Stop, src.Expires = new(signal.Signal), new(atomic.Bool), time.Now().Add(time.Hour)
			s := serve(src, getGzip("/"), group, withGzip(options), newClient())
			synctest.Wait()
			switch reason {
			case stream.Revoked:
				src.Revoked.Set()
			case stream.Stopped:
				src.Stop.Store(true)
				group.Notify()
			}
			time.Sleep(2 * time.Hour)
			s.wantEnd(t, reason)
			if text := gunzip(t, s.since(0)); !strings.HasPrefix(text, "retry: ") {
				t.Errorf("got %q", text)
			}
		})
	}
}

func TestGzipStreamThatIsCutHasNoTrailer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHub(t, store.History{})
		s := serve(stream.Subscribe(h, []string{"a"}, ""), getGzip("/"), nil, withGzip(options), newClient())
		synctest.Wait()
		publish(t, h, document(1000), "a")
		synctest.Wait()
		s.disconnect()
		s.wantEnd(t, stream.ClientLeft)
		if text, err := tryGunzip(s.since(0)); err != io.ErrUnexpectedEOF || len(decodeAll(t, text)) != 1 {
			t.Errorf("got %q, %v", text, err)
		}
	})
}
