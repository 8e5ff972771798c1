package caddysse_test

import (
	"bytes"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// keeper is a handler that keeps back what the next handlers write: its writer has
// no Flush, or buffers.
type keeper struct {
	How string `json:"how,omitempty"`
}

func init() {
	caddy.RegisterModule(keeper{})
	httpcaddyfile.RegisterHandlerDirective("test_keep", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		h.Next()
		how := h.RemainingArgs()
		return &keeper{how[0]}, nil
	})
	httpcaddyfile.RegisterDirectiveOrder("test_keep", httpcaddyfile.Before, "encode")
}

func (keeper) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "http.handlers.test_keep", New: func() caddy.Module { return new(keeper) }}
}

func (k *keeper) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch k.How {
	case "without_flush":
		return next.ServeHTTP(struct{ http.ResponseWriter }{w}, r)
	case "in_a_buffer":
		rec := caddyhttp.NewResponseRecorder(w, new(bytes.Buffer), func(int, http.Header) bool { return true })
		if err := next.ServeHTTP(rec, r); err != nil {
			return err
		}
		return rec.WriteResponse()
	default:
		return next.ServeHTTP(w, r)
	}
}

func TestStreamThatIsKeptBackIsOneErrorInTheLog(t *testing.T) {
	for how, status := range map[string]int{"without_flush": http.StatusInternalServerError, "in_a_buffer": http.StatusOK} {
		for _, rule := range []string{"sse /doc {\n poll 1s\n }\n respond /doc 1", "sse /doc {\n topic news\n }"} {
			log := filepath.Join(t.TempDir(), "log.json")
			s := startSite(t, "log everything {\n output file "+log+" {\n roll_disabled\n }\n}", "test_keep "+how+"\n"+rule)
			for _, protocol := range protocols {
				resp := s.doOver(protocol, "GET", "/doc", "", "Accept", "text/event-stream")
				if resp.StatusCode != status {
					t.Errorf("%s, %s, %s: %s, %q", how, rule, protocol, resp.Status, resp.body)
				}
				if status != http.StatusOK && !strings.Contains(resp.body, "a handler before it keeps back what is written") {
					t.Errorf("%s, %s, %s: %q", how, rule, protocol, resp.body)
				}
			}
			lines, err := os.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(string(lines), "a handler before the rule keeps back what streams write: its response writer "); n != 2 { // one for each of the site's two servers
				t.Errorf("%s, %s: %d errors in the log, want 2: %s", how, rule, n, lines)
			}
		}
	}
}
