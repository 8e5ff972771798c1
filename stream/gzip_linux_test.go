package stream_test

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"io"
	"strconv"
	"sync"
	"testing"

	"github.com/caddy-sse/caddy-sse/event/eventtest"
	"github.com/caddy-sse/caddy-sse/store"
	"github.com/caddy-sse/caddy-sse/stream"
)

// TestTakenOverStreamsSendGzip over HTTP/1.1 and, without chunks, HTTP/1.0.
func TestTakenOverStreamsSendGzip(t *testing.T) {
	s := newServer(t, store.History{})
	s.options.Gzip = true
	const each, events = 4, 200
	var want []string
	for i := range events {
		want = append(want, strconv.Itoa(i)+" "+[]string{"", document(500), noise(2000), document(20_000)}[i%4])
	}
	var received, ended sync.WaitGroup
	for i := range 3 * each {
		accept := []string{"gzip", "gzip", "identity"}[i%3]
		resp := readResponse(t, s.dial(t, "HTTP/1."+strconv.Itoa(1-i%2), "Accept-Encoding: "+accept, ""))
		var body io.Reader = resp.Body
		if resp.Header.Get("Content-Encoding") == "gzip" {
			r, err := gzip.NewReader(bufio.NewReader(body))
			if err != nil {
				t.Fatal(err)
			}
			r.Multistream(false)
			body = r
		} else if accept == "gzip" {
			t.Fatalf("the headers are %v", resp.Header)
		}
		received.Add(1)
		ended.Go(func() {
			d := eventtest.NewDecoder(body, 0)
			wantEach(t, d, want)
			received.Done()
			if _, err := d.Next(); err != io.EOF {
				t.Errorf("after the end: %v", err)
			}
		})
	}
	for _, data := range want {
		publish(t, s.hub, data, "a")
	}
	received.Wait()
	s.group.End(0)
	ended.Wait()
	var least, most int64
	for range 3 * each {
		n := s.wantEnd(t, stream.ShutDown).Bytes
		least, most = min(cmp.Or(least, n), n), max(most, n)
	}
	if least > most/2 {
		t.Errorf("from %d to %d bytes were sent", least, most)
	}
}

func wantEach(t *testing.T, d *eventtest.Decoder, want []string) {
	for i, data := range want {
		e, err := d.Next()
		if err != nil || string(e.Data) != data {
			t.Errorf("event %d is %.50q, %v, want %.50q", i, e.Data, err, data)
			return
		}
	}
}
