package poll_test

import (
	"strings"
	"testing"
	"time"

	"github.com/caddy-sse/caddy-sse/upstream/poll"
)

func TestEventNameExpandsTemplate(t *testing.T) {
	for _, test := range []struct{ event, body, want string }{
		{"", `{"a":1}`, ""},
		{"inventory", `{"a":1}`, "inventory"},
		{"inventory", `no JSON`, "inventory"},
		{"{json.type}-changed", `{"type":"order"}`, "order-changed"},
		{"{json.items.0.id}", `{"items":[{"id":12345678901234567890}]}`, "12345678901234567890"},
		{"{json.ok}", `{"ok":true}`, "true"},
		{"{json.type}", `{}`, ""},
		{"{json.type}", `{"type":""}`, ""},
		{"{json.type}", `{"type":null}`, ""},
		{"{json.type}", `{"type":{"a":1}}`, ""},
		{"{json.type}", `{"type":["a"]}`, ""},
		{"{json.type}", `{"type":"a\nb"}`, ""},
		{"{json.type}", `{"type":"stale"}`, ""},
		{"{json.type}", `{"type":"error"}`, ""},
		{"{json.type}", `no JSON`, ""},
	} {
		within(t, poll.Config{Event: test.event}, func(e *env) {
			e.set(document(test.body))
			events := e.subscribe(newRequest("/doc")).events()
			if len(events) != 1 || events[0].Name != test.want || string(events[0].Data) != test.body {
				t.Errorf("%+v: got %+v", test, events)
			}
		})
	}
}

func TestEventNameReadsSelectedDocument(t *testing.T) {
	within(t, poll.Config{Event: "{json.type}", Select: ".of", Interval: second}, func(e *env) {
		e.set(document(`{"type":"x","of":{"type":"a"}}`))
		v := e.subscribe(newRequest("/doc"))
		e.set(document(`{"type":"x","of":{"type":"b"}}`))
		advance(time.Second)
		e.set(document(`{"type":"y","of":{"type":"b"}}`)) // no change
		advance(time.Second)
		v.want(t, "a", "b")
	})
}

func TestSnapshotInsteadOfLongerPatchHasEventName(t *testing.T) {
	within(t, poll.Config{Event: "doc", Send: "patch", Interval: second}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		e.set(document("2"))
		advance(time.Second)
		v.want(t, "doc", "doc")
	})
}

func TestJQEventKeepsItsOwnNameBesideDocuments(t *testing.T) {
	within(t, poll.Config{Event: "doc", Send: "jq", SendArgument: "{data: .new}", First: "document", Interval: second}, func(e *env) {
		v := e.subscribe(newRequest("/doc"))
		e.set(document("2"))
		advance(time.Second)
		v.want(t, "doc", "2")
	})
}

func TestConfigRejectsReservedEventName(t *testing.T) {
	for name, want := range map[string]string{
		"patch": "another name", "stale": "another name", "complete": "another name",
		"error": "error", "a\nb": "", "{query.x}": "{json.PATH}", "{json.}": "{json.PATH}", "{json.a": "",
	} {
		c := poll.Config{Event: name}
		if err := c.Provision(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "event") {
			t.Errorf("%q: got %v, want an error with %q", name, err, want)
		}
	}
}
