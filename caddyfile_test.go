package caddysse_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	caddysse "github.com/caddy-sse/caddy-sse"
)

var update = flag.Bool("update", false, "write the results of the Caddyfiles in testdata/adapt")

// goldenLine separates a Caddyfile from its JSON or its error, as in Caddy's own
// tests.
const goldenLine = "----------\n"

func TestCaddyfileAdaptsToGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no Caddyfiles to test: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".caddyfiletest")
		t.Run(name, func(t *testing.T) {
			content, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			input, want, ok := strings.Cut(string(content), goldenLine)
			if !ok {
				t.Fatalf("%s has no line %q", file, goldenLine)
			}
			got := adaptedOrError(t, input)
			if isError := strings.HasPrefix(name, "error_"); isError == json.Valid([]byte(got)) {
				t.Errorf("is an error: %t; got %s", !json.Valid([]byte(got)), got)
			}
			if *update {
				if err := os.WriteFile(file, []byte(input+goldenLine+got), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got\n%s\nwant\n%s", got, want)
			}
		})
	}
}

func adaptedOrError(t *testing.T, input string) string {
	t.Helper()
	config, err := adapt(input)
	if err != nil {
		return err.Error() + "\n"
	}
	var pretty bytes.Buffer
	if err := json.Indent(&pretty, config, "", "\t"); err != nil {
		t.Fatal(err)
	}
	return pretty.String() + "\n"
}

func TestUnknownOptionErrorNamesLine(t *testing.T) {
	for name, input := range map[string]string{
		"rule":    "localhost {\n\tsse {\n\t\tpoll 2s\n\t\tnope\n\t}\n}\n",
		"poll":    "localhost {\n\tsse {\n\t\tpoll 2s {\n\t\t\tnope\n\t\t}\n\t}\n}\n",
		"webhook": "localhost {\n\tsse {\n\t\twebhook {\n\t\t\tnope\n\t\t}\n\t}\n}\n",
		"publish": "localhost {\n\tsse {\n\t\tpublish {\n\t\t\tnope\n\t\t}\n\t}\n}\n",
		"global":  "{\n\tsse {\n\t\tdrain 1s\n\t\tnope\n\t}\n}\n",
	} {
		_, err := adapt(input)
		if err == nil || !strings.Contains(err.Error(), "Caddyfile:4") || !strings.Contains(err.Error(), "want one of") {
			t.Errorf("%s: got %v, want an error for line 4 that says what is allowed", name, err)
		}
	}
}

func TestInvalidConfigurationErrorSaysWhatToWrite(t *testing.T) {
	for _, c := range []struct{ rule, want string }{
		{"sse", "a rule needs poll, webhook, publish, relay, multiplex or topic"},
		{"sse {\n multiplex /a\n}", "?url=/v1/orders"},
		{"sse {\n multiplex {\n max_urls 1000\n }\n}", "from 1 to 100"},
		{"sse {\n multiplex\n authorize /a\n}", "write authorize there"},
		{"sse {\n relay {\n replay last\n }\n}", "replay last 10"},
		{"sse {\n relay {\n replay none\n }\n}", "add share"},
		{"sse {\n relay {\n format xml\n }\n}", "want sse, ndjson"},
		{"sse {\n relay {\n event {query.x}\n }\n}", "use {json.PATH}"},
		{"sse {\n relay {\n resume_event reset\n }\n}", "such as resume"},
		{"sse {\n relay\n topic news\n}", "leave out topic"},
		{"sse {\n relay feed.example.com\n}", "write http://"},
		{"sse {\n relay {env.NOT_SET_ANYWHERE}\n}", "NOT_SET_ANYWHERE"},
		{"sse {\n relay http://a.test {\n header_up X-Key {env.NOT_SET_ANYWHERE}\n }\n}", "is the variable of the environment set"},
		{"sse {\n relay http://a.test {\n topic news\n }\n cors *\n}", "to the rule with topic"},
		{"sse {\n relay http://a.test\n topic news\n}", "in relay's block"},
		{"sse {\n publish\n}", "token {env.PUBLISH_TOKEN}"},
		{"sse {\n publish {\n token {env.NOT_SET_ANYWHERE}\n }\n}", "NOT_SET_ANYWHERE"},
		{"sse {\n publish {\n jwt\n }\n}", "key {env.JWT_SECRET}"},
		{"sse {\n publish {\n token x\n }\n topic news\n}", "one of its own"},
		{"sse {\n publish {\n token x\n }\n poll 1s\n}", "write two"},
		{"sse {\n publish {\n token x\n }\n cors *\n}", "no streams"},
		{"sse {\n publish {\n token x\n }\n jwt {\n key {env.JWT_SECRET}\n }\n}", "belongs in publish's block"},
		{"sse {\n topic news\n jwt {\n key short\n }\n}", "openssl rand"},
		{"sse {\n poll 1s\n jwt {\n key {env.JWT_SECRET}\n }\n}", "as the viewer"},
		{"sse {\n webhook\n}", "verify none"},
		{"sse {\n webhook {\n verify github {env.NOT_SET_ANYWHERE}\n }\n}", "NOT_SET_ANYWHERE"},
		{"sse {\n webhook {\n verify githab x\n }\n}", "github"},
		{"sse {\n webhook {\n verify hmac x\n }\n}", "header X-Signature"},
		{"sse {\n webhook {\n verify none\n select `{path}`\n }\n}", "{path: .path}"},
		{"sse {\n webhook {\n verify token X-Token\n }\n}", "verify token X-Token {env.WEBHOOK_TOKEN}"},
		{"sse {\n webhook {\n verify basic ann secret\n }\n}", "caddy hash-password"},
		{"sse {\n webhook {\n verify sns orders\n }\n}", "not the name of a topic"},
		{"sse {\n webhook {\n verify none\n refresh orders\n }\n}", "/v1/orders/{json.id}"},
		{"sse {\n webhook {\n verify none\n when .[\n }\n}", "when: jq program"},
		{"sse {\n poll 1s\n webhook {\n verify none\n }\n}", "write two"},
		{"sse {\n poll 1s\n topic news\n}", "leave out topic"},
		{"sse {\n webhook {\n verify none\n }\n topic news\n}", "one of its own"},
		{"sse {\n webhook {\n verify none\n }\n cors *\n}", "no streams"},
		{"sse {\n poll 1ms\n}", "100ms"},
		{"sse {\n poll 1s {\n max 500ms\n }\n}", "shorter than the interval"},
		{"sse {\n poll 1s {\n select `{`\n }\n}", "select"},
		{"sse {\n poll 1s {\n refresh checkout\n }\n}", "/checkout"},
		{"sse {\n poll 1s {\n refresh only\n }\n}", "refresh only PUT PATCH DELETE"},
		{"sse {\n poll 1s {\n refresh @logout\n }\n}", "@logout path /logout"},
		{"sse {\n poll 1s {\n refresh off\n refresh PUT\n }\n}", "remove one of the two"},
		{"sse {\n poll 1s {\n vary X-Tenant Accept-Encoding\n }\n}", "polls never send this header"},
		{"sse {\n poll 1s {\n vary Range\n }\n}", "polls never send this header"},
		{"sse {\n poll 1s {\n vary X-Forwarded-For\n }\n}", "always separate viewers with credentials"},
		{"sse {\n poll 1s {\n vary none Cookie\n }\n}", "vary none excludes other headers"},
		{"sse {\n poll 1s {\n vary X-Y:z\n }\n}", "Cookie:session"},
		{"sse {\n poll 1s {\n method PUT\n }\n}", "use GET or POST"},
		{"sse {\n poll 1s {\n method POST\n absorb\n }\n}", "remove method POST or absorb"},
		{"sse {\n poll 1s {\n share\n vary Cookie\n }\n}", "regardless of Authorization and Cookie"},
		{"sse {\n poll 1s {\n share unchecked\n vary X-Tenant Cookie:session\n }\n}", "contradicts share"},
		{"sse {\n poll 1s {\n event patch\n }\n}", "use another name"},
		{"sse {\n poll 1s {\n event {query.x}\n }\n}", "{json.PATH}"},
		{"sse {\n topic {query.topic}\n}", "allow *"},
		{"sse {\n topic orders/{query.order}/items\n}", "allow orders/*/items"},
		{"sse {\n topic news\n heartbeat 30s\n}", "HTTP/3"},
		{"sse {\n topic news\n heartbeat 1ms\n}", "at least 1s"},
		{"sse {\n topic news\n max_age 999ms\n}", "at least 1s"},
		{"sse {\n topic news\n encode zstd gzip\n}", "write encode gzip"},
		{"sse {\n topic news\n hub nowhere\n}", "`sse nowhere`"},
		{"sse {\n topic news\n cors app.example\n}", "https://app.example.com"},
		{"sse {\n poll 1s\n allow x\n}", "needs topic"},
		{"sse {\n webhook {\n verify none\n }\n max_streams 1\n}", "this rule has none"},
		{"sse {\n topic {query.a}/{query.b}\n authorize /api/{query.a}\n}", "in the uri of authorize"},
		{"sse {\n topic news\n authorize /api/me {\n recheck 500ms\n }\n}", "1s or more"},
		{"sse {\n poll 1s\n authorize /api/me\n}", "leave out authorize"},
		{"sse {\n webhook {\n verify none\n }\n authorize /api/me\n}", "authorize is for rules with topic"},
		{"sse {\n poll 1s\n envelope\n}", "it needs topic"},
	} {
		err := loadCaddyfile(fmt.Sprintf("{\n admin off\n}\nhttp://localhost:%d {\n bind 127.0.0.1\n %s\n}", freePort(t), c.rule))
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s\n\tgot %v, want an error with %q", c.rule, err, c.want)
		}
		if err == nil {
			_ = caddy.Stop()
		}
	}
}

func TestExampleCaddyfileIsValidAndFormatted(t *testing.T) {
	content, err := os.ReadFile("Caddyfile.example")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := adapt(string(content)); err != nil {
		t.Error(err)
	}
	if !bytes.Equal(caddyfile.Format(content), content) {
		t.Error("it is not formatted as `caddy fmt` does")
	}
}

// fence matches a Caddyfile in a Markdown page.
var fence = regexp.MustCompile("(?ms)^```(caddyfile|caddyfile-fragment)\n(.*?)^```$")

func TestCaddyfilesInDocsAdapt(t *testing.T) {
	pages, err := filepath.Glob("docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for _, page := range append(pages, "README.md") {
		content, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, block := range fence.FindAllStringSubmatch(string(content), -1) {
			found++
			input := block[2]
			if block[1] == "caddyfile-fragment" {
				input = "localhost {\n" + input + "}\n"
			}
			if _, err := adapt(input); err != nil {
				t.Errorf("%s: %v in\n%s", page, err, input)
			}
		}
	}
	if found == 0 {
		t.Error("no page has a Caddyfile")
	}
}

func FuzzCaddyfile(f *testing.F) {
	files, err := filepath.Glob("testdata/adapt/*.caddyfiletest")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		input, _, _ := strings.Cut(string(content), goldenLine)
		f.Add(input)
	}
	f.Fuzz(func(t *testing.T, input string) {
		tokens, err := caddyfile.Tokenize([]byte(input), "Caddyfile")
		if err != nil {
			return // not a Caddyfile
		}
		for _, u := range []caddyfile.Unmarshaler{new(caddysse.Handler), new(caddysse.App)} {
			if err := u.UnmarshalCaddyfile(caddyfile.NewDispenser(tokens)); err != nil && err.Error() == "" {
				t.Error("an error without a text")
			}
		}
	})
}
