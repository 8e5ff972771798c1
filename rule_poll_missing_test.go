package caddysse_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFileThatIsRegeneratedKeepsItsStreams(t *testing.T) {
	dir := t.TempDir()
	s := startSite(t, "", fmt.Sprintf("sse {\n poll 100ms {\n gone_after 1m\n wait\n }\n }\n root * %s\n file_server", dir))
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			path := "/" + protocol[5:] + ".json"
			file := filepath.Join(dir, filepath.FromSlash(path))
			write := func(content string) {
				t.Helper()
				if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			c := s.open(protocol, path)
			for i := range 2 { // not there yet, then removed
				if e := c.next(); e.Name != "stale" || !strings.Contains(string(e.Data), `"status":404`) {
					t.Fatalf("got event %q with data %q", e.Name, e.Data)
				}
				write(fmt.Sprintf(`{"n":%d}`, i))
				c.expect("", fmt.Sprintf(`{"n":%d}`, i))
				if err := os.Remove(file); err != nil {
					t.Fatal(err)
				}
			}
			c.close()
		})
	}
}
