package caddysse_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"
)

// rawStream opens a stream over HTTP/1.1 without a goroutine of the client.
func (s *site) rawStream(t *testing.T, path string) (*http.Response, net.Conn) {
	t.Helper()
	conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.http))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "GET %s HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nAccept-Encoding: gzip\r\n\r\n", path)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatal(resp, err)
	}
	return resp, conn
}

// behindProxy makes the site's connections those of the PROXY protocol.
const behindProxy = "servers {\n listener_wrappers {\n proxy_protocol {\n allow 127.0.0.0/8\n }\n tls\n }\n }\n"

// encodeStreams would compress streams that don't forbid it.
const encodeStreams = "encode {\n gzip\n match {\n header Content-Type text/event-stream*\n }\n}\n"

// The handler of a stream that has taken over its connection returns, unless
// another handler must see the whole response.
func TestHandlerReturnsUnlessResponseIsRecorded(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("streams take over connections on Linux only")
	}
	const topic = "sse /events {\n topic t\n}\n"
	for name, test := range map[string]struct {
		global, directives string
		returns            bool
	}{
		"nothing else":      {"", topic, true},
		"header directive":  {"", "header -Server\n header >X-Late value\n" + topic, true},
		"idle timeouts off": {"servers {\n timeouts {\n write_idle -1s\n }\n }\n", topic, true},
		"PROXY protocol":    {behindProxy, topic, true},
		"access log":        {"", "log\n" + topic, false},
		"metrics":           {"metrics\n", topic, false},
		"encode":            {"", encodeStreams + topic, true},
		"encode in effect":  {"", "route {\n" + encodeStreams + "header >Cache-Control no-cache\n" + topic + "}\n", false},
	} {
		t.Run(name, func(t *testing.T) {
			s := startSite(t, test.global, test.directives)
			for range 3 { // for goroutines that stay
				s.rawStream(t, "/events")
			}
			before := runtime.NumGoroutine()
			const streams = 60
			for range streams {
				resp, _ := s.rawStream(t, "/events")
				if encoded := resp.Header.Get("Content-Encoding") != ""; encoded != (name == "encode in effect") {
					t.Fatalf("the headers are %v", resp.Header)
				}
			}
			waitFor(t, "goroutines of handlers as expected", func() bool {
				more := runtime.NumGoroutine() - before
				return test.returns == (more < streams/2)
			})
		})
	}
}

// handledRequests returns the lines of an access log.
func handledRequests(t *testing.T, file string) (lines []accessLine) {
	t.Helper()
	content, _ := os.ReadFile(file)
	for line := range strings.Lines(string(content)) {
		var l accessLine
		if err := json.Unmarshal([]byte(line), &l); err != nil {
			t.Fatal(err)
		}
		lines = append(lines, l)
	}
	return lines
}

type accessLine struct {
	Status   int     `json:"status"`
	Size     int     `json:"size"`
	Duration float64 `json:"duration"`
	SSE      struct {
		Events int    `json:"events"`
		Bytes  int    `json:"bytes"`
		Reason string `json:"reason"`
	} `json:"sse"`
}

func TestHandlersThatRecordResponsesSeeWholeStream(t *testing.T) {
	t.Run("plain", func(t *testing.T) { testRecordedStream(t, "", "") })
	t.Run("encode", func(t *testing.T) { testRecordedStream(t, "", encodeStreams) })
	t.Run("PROXY protocol", func(t *testing.T) { testRecordedStream(t, behindProxy, "") })
}

func testRecordedStream(t *testing.T, global, around string) {
	log := filepath.Join(t.TempDir(), "access.log")
	hub := newHubName() // metrics outlive sites
	s := watchedSite(t, "metrics\nsse "+hub+"\n"+global,
		around+"log {\n output file "+log+" {\n roll_disabled\n}\n}\nlog_append path {path}\nsse /events {\n hub "+hub+"\n topic t\n}\nsse /publish {\n hub "+hub+"\n publish {\n token "+publishToken+"\n}\n}\n")
	metrics := func() string {
		_, body := s.requestAdmin("GET", "/metrics")
		return body
	}
	resp, _ := s.rawStream(t, "/events")
	began := time.Now()
	for n := range 20 {
		if resp := s.do("POST", "/publish", fmt.Sprint("topic=t&data=", n), "Authorization", "Bearer "+publishToken, "Content-Type", "application/x-www-form-urlencoded"); resp.StatusCode != http.StatusOK {
			t.Fatal(resp.Status, resp.body)
		}
	}
	waitFor(t, "twenty events sent", func() bool {
		return strings.Contains(metrics(), fmt.Sprintf("caddy_sse_events_sent_total{hub=%q,rule=\"/events\"} 20", hub))
	})
	if open := len(handledRequests(t, log)); open != 20 {
		t.Errorf("%d requests are logged while the stream is open, want the 20 that published", open)
	}
	s.requestAdmin("DELETE", "/sse/streams?path=/events")
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Error(err)
	}
	took := time.Since(began)
	waitFor(t, "line of the stream", func() bool { return len(handledRequests(t, log)) == 21 })
	line := handledRequests(t, log)[20]
	if line.Status != 200 || line.Size != len(body) || line.SSE.Bytes != len(body) || line.SSE.Events != 20 || line.Duration > took.Seconds()+1 || line.Duration <= 0 {
		t.Errorf("%+v, the body has %d bytes and took %v", line, len(body), took)
	}
	sum := regexp.MustCompile(fmt.Sprintf(`caddy_http_response_size_bytes_sum\{code="200",handler="[^"]*",method="GET",[^}]*\} %d\n`, len(body)))
	if got := metrics(); !sum.MatchString(got) {
		t.Errorf("Caddy's metrics have no %s", sum)
	}
}

// TestTakenOverStreamOutlivesWriteTimeout of the server, also for writes that wait for
// the client.
func TestTakenOverStreamOutlivesWriteTimeout(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("streams take over connections on Linux only")
	}
	for _, protocol := range []string{"HTTP/1.1", "HTTP/3.0"} {
		t.Run(protocol, func(t *testing.T) {
			s := startSite(t, "servers {\n timeouts {\n write 1s\n }\n }\n", `
				sse /hooks/* {
					webhook {
						verify none
						topic news
					}
				}
				sse /events {
					topic news
					heartbeat 1s alive
				}`)
			c := s.open(protocol, "/events")
			for range 2 { // by then the stream is older than a second
				if e := c.next(); e.Name != "alive" {
					t.Fatalf("got %q", e.Name)
				}
			}
			for n := range 3 {
				data := fmt.Sprint(n, strings.Repeat("x", 200<<10))
				s.publish("", data)
				e := c.next()
				for ; e.Name == "alive"; e = c.next() {
				}
				if string(e.Data) != data {
					t.Errorf("event %d has %d bytes: %.50q", n, len(e.Data), e.Data)
				}
			}
		})
	}
}
