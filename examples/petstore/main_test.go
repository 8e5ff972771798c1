package main

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
)

func noEnvironment(string) string { return "" }

func TestRunPrintsAddressAndStopsCleanly(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	output, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-listen", "127.0.0.1:0"}, noEnvironment, stdout)
		stdout.Close()
	}()

	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(line, "listening on ")
	address, _, _ := strings.Cut(rest, ",")
	res, err := http.Get(address + "/v1/inventory")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Errorf("status is %s", res.Status)
	}

	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestAnnouncementNamesWebhookURL(t *testing.T) {
	for _, test := range []struct{ webhook, secret, want string }{
		{"http://caddy.test/hooks", "whsec_c2VjcmV0", "webhooks to http://caddy.test/hooks"},
		{"http://caddy.test/hooks", "", "no webhooks: PETSTORE_WEBHOOK_SECRET is not set"},
		{"", "whsec_c2VjcmV0", "no webhooks"},
	} {
		t.Run(test.want, func(t *testing.T) {
			s, err := parseSettings([]string{"-webhook", test.webhook}, func(string) string { return test.secret })
			if err != nil {
				t.Fatal(err)
			}
			if got := s.announcement(nil); !strings.HasSuffix(got, test.want) {
				t.Errorf("it says %q", got)
			}
		})
	}
}

func TestInvalidSettingsAreErrors(t *testing.T) {
	for _, args := range [][]string{{"-step", "0s"}, {"-shop", "-1s"}, {"-think", "-1s"}} {
		if _, err := parseSettings(args, noEnvironment); err == nil {
			t.Errorf("%v was accepted", args)
		}
	}
	if _, err := parseSettings(nil, func(string) string { return "hunter2" }); err == nil {
		t.Error("an invalid secret was accepted")
	}
}
