package caddysse_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
)

// startFile starts a site with a file store in a directory.
func startFile(t *testing.T, options string) (s *site, dir string) {
	t.Helper()
	dir = filepath.Join(t.TempDir(), "sse")
	return startSite(t, fileStore(dir, options), fmt.Sprintf(pubsub, "")), dir
}

func fileStore(dir, options string) string {
	return fmt.Sprintf("sse {\n store file %s\n %s\n }", dir, options)
}

// restart stops Caddy and starts it again.
func (s *site) restart(global, directives string) {
	s.t.Helper()
	if err := caddy.Stop(); err != nil {
		s.t.Fatal(err)
	}
	s.reload(global, directives)
}

func TestFileStoreLetsClientsResumeAfterRestart(t *testing.T) {
	s, dir := startFile(t, "")
	for _, protocol := range protocols {
		c := s.open(protocol, "/events/news")
		first := s.publish("news", "1")
		c.expect("", "1")
		second := s.publish("news", "2")
		c.expect("", "2")
		s.restart(fileStore(dir, ""), fmt.Sprintf(pubsub, ""))
		// At once: nothing has been published since.
		if e := s.open(protocol, "/events/news", "Last-Event-ID", first).expect("", "2"); e.ID != second {
			t.Errorf("%s: the event's id was %q, and is %q", protocol, second, e.ID)
		}
		c = s.open(protocol, "/events/news", "Last-Event-ID", second)
		if third := s.publish("news", "3"); third == second {
			t.Errorf("%s: the id %q is used twice", protocol, third)
		}
		c.expect("", "3")
	}
}

func TestFileStoreAvoidsRepeatedDocumentAfterRestart(t *testing.T) {
	doc := newDocument(`{"n":1}`)
	backend := startBackend(t, doc.ServeHTTP)
	dir := filepath.Join(t.TempDir(), "sse")
	directives := "sse /doc {\n poll 100ms\n }\n reverse_proxy " + backend
	s := startSite(t, fileStore(dir, ""), directives)
	id := s.open("HTTP/1.1", "/doc").expect("", `{"n":1}`).ID
	s.restart(fileStore(dir, ""), directives)
	c := s.open("HTTP/1.1", "/doc", "Last-Event-ID", id)
	doc.set(`{"n":2}`)
	c.expect("", `{"n":2}`)
}

func TestReloadKeepsFileOpen(t *testing.T) {
	s, dir := startFile(t, "drain 100ms")
	first := s.publish("news", "1")
	for i := range 3 {
		s.reload(fileStore(dir, fmt.Sprintf("history %d", 100+i)), fmt.Sprintf(pubsub, ""))
		s.publishUntilAcknowledged("news", fmt.Sprint(i))
	}
	c := s.open("HTTP/1.1", "/events/news", "Last-Event-ID", first)
	for i := range 3 {
		c.expect("", fmt.Sprint(i))
	}
}

// filesIn returns the names in a directory, none if it doesn't exist.
func filesIn(t *testing.T, dir string) string {
	t.Helper()
	list, err := os.ReadDir(dir)
	if err != nil && !os.IsNotExist(err) {
		t.Fatal(err)
	}
	var names []string
	for _, e := range list {
		names = append(names, e.Name())
	}
	return strings.Join(names, " ")
}

func validate(t *testing.T, caddyfile string) error {
	t.Helper()
	adapted, err := adapt(caddyfile)
	if err != nil {
		t.Fatal(err)
	}
	config := new(caddy.Config)
	if err := json.Unmarshal(adapted, config); err != nil {
		t.Fatal(err)
	}
	return caddy.Validate(config)
}

func TestValidateTouchesNoFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "sse")
	rules := fmt.Sprintf(pubsub, "") + "sse /doc {\n poll 1s\n }\n respond ok"
	if err := validate(t, "{\n"+fileStore(dir, "")+"\n}\nhttp://localhost:1 {\n"+rules+"\n}"); err != nil {
		t.Error(err)
	}
	if names := filesIn(t, filepath.Dir(dir)); names != "" {
		t.Errorf("there is %s", names)
	}
}

func TestRejectedConfigurationCreatesNoFile(t *testing.T) {
	s, dir := startFile(t, "")
	id := s.publish("news", "1")
	more := fileStore(dir, "") + "\n sse more {\n store file " + dir + "\n }"
	if err := s.load(more, "sse {\n hub nowhere\n topic x\n }"); err == nil {
		t.Fatal("the configuration was not rejected")
	}
	if names := filesIn(t, dir); names != "default.db" {
		t.Errorf("there is %s", names)
	}
	s.publish("news", "2")
	s.open("HTTP/1.1", "/events/news", "Last-Event-ID", id).expect("", "2")
}

func TestEachHubHasItsOwnFile(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("SSE_TEST_DIR", dir)
	global := ""
	for _, hub := range []string{"", "prices", "Prices", "../up", "a/b", "a%2Fb", "é", "-_9"} {
		global += fmt.Sprintf("sse %s {\n store file {env.SSE_TEST_DIR}/logs\n }\n", hub)
	}
	startSite(t, global, "")
	want := "%2E%2E%2Fup.db %50rices.db %C3%A9.db -_9.db a%252%46b.db a%2Fb.db default.db prices.db"
	if names := filesIn(t, filepath.Join(dir, "logs")); names != want {
		t.Errorf("%s", names)
	}
}

func TestDamagedFileIsRefusedUnlessReplaceIsConfigured(t *testing.T) {
	s, dir := startFile(t, "")
	id := s.publish("news", "1")
	if err := caddy.Stop(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "default.db")
	if err := os.WriteFile(file, []byte("no log"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := s.load(fileStore(dir, ""), fmt.Sprintf(pubsub, ""))
	if err == nil || !strings.Contains(err.Error(), file) || !strings.Contains(err.Error(), "damaged replace") {
		t.Fatalf("loading: %v", err)
	}
	if content, err := os.ReadFile(file); err != nil || string(content) != "no log" {
		t.Errorf("the file is %q, %v", content, err)
	}
	s.reload(fmt.Sprintf("sse {\n store file %s {\n damaged replace\n }\n }", dir), fmt.Sprintf(pubsub, ""))
	if names := filesIn(t, dir); !strings.HasPrefix(names, "default.db default.db.damaged-") {
		t.Errorf("there is %s", names)
	}
	s.open("HTTP/1.1", "/events/news", "Last-Event-ID", id).expect("reset", `{"reason":"the position is not in the history"}`)
}

func TestFileInUseIsRefusedSoon(t *testing.T) {
	s, dir := startFile(t, "")
	// Another hub with the same directory by another path.
	link := filepath.Join(t.TempDir(), "link")
	if err := os.MkdirAll(link, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Link(filepath.Join(dir, "default.db"), filepath.Join(link, "other.db")); err != nil {
		t.Fatal(err)
	}
	err := s.load(fileStore(dir, "")+"\n sse other {\n store file "+link+"\n }", "")
	if err == nil || !strings.Contains(err.Error(), "another process has had it open") {
		t.Errorf("loading: %v", err)
	}
	if resp := s.do("POST", "/hooks/news", "x"); resp.StatusCode != http.StatusAccepted {
		t.Errorf("afterwards a webhook is answered with %s", resp.Status)
	}
}
