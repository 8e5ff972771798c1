package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const question = `{"messages":[{"role":"user","content":"Why?"}],"stream":true}`

func TestAnswerComesAWordAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		res := httptest.NewRecorder()
		start := time.Now()
		routes(time.Second).ServeHTTP(res, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(question)))
		var text strings.Builder
		words := 0
		for _, line := range strings.Split(strings.TrimSpace(res.Body.String()), "\n\n") {
			data := strings.TrimPrefix(line, "data: ")
			if data == "[DONE]" {
				break
			}
			var chunk struct {
				Choices []struct{ Delta struct{ Content string } }
			}
			if err := json.Unmarshal([]byte(data), &chunk); err != nil {
				t.Fatalf("%q: %v", data, err)
			}
			text.WriteString(chunk.Choices[0].Delta.Content)
			words++
		}
		if text.String() != answer("Why?") {
			t.Errorf("the text is %q", &text)
		}
		if took := time.Since(start); took != time.Duration(words)*time.Second {
			t.Errorf("%d words took %s", words, took)
		}
		if !strings.HasSuffix(res.Body.String(), "\n\ndata: [DONE]\n\n") {
			t.Error("it doesn't end with [DONE]")
		}
	})
}

func TestQuestionWithoutMessagesIsRefused(t *testing.T) {
	for _, body := range []string{"", "{}", `{"messages":[]}`, "hello", strings.Repeat(" ", maxBody) + question} {
		res := httptest.NewRecorder()
		routes(0).ServeHTTP(res, httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/v1/chat/completions", strings.NewReader(body)))
		if res.Code != http.StatusBadRequest {
			t.Errorf("%.40q got %d", body, res.Code)
		}
	}
}

func TestRunStopsWhileItAnswers(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	output, stdout := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", time.Hour, stdout) }()
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	_, url, _ := strings.Cut(strings.TrimSpace(line), "listening on ")
	asked := make(chan error, 1)
	go func() {
		res, err := http.Post(url+"/v1/chat/completions", "application/json", strings.NewReader(question))
		if err == nil {
			res.Body.Close()
		}
		asked <- err
	}()
	res, err := http.Get(url + "/v1/models")
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	stop()
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
	if err := <-asked; err == nil {
		t.Error("the question got a response")
	}
}
