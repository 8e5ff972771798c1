package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// publishing is a rule for the run's own events.
const publishing = `
	sse /publish {
		publish {
			token bench
		}
	}`

// publish publishes an event and returns its id.
func (c *caddyProcess) publish(ctx context.Context, topic, data string) (id string, err error) {
	form := url.Values{"topic": {topic}, "data": {data}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url+"/publish", strings.NewReader(form.Encode()))
	if err != nil {
		return "", err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Authorization", "Bearer bench")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var published struct{ IDs []string }
	if err := json.NewDecoder(resp.Body).Decode(&published); err != nil || len(published.IDs) != 1 {
		return "", fmt.Errorf("publishing: %s, %v", resp.Status, err)
	}
	return published.IDs[0], nil
}
