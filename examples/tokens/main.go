// Command tokens stands in for the server of a language model. It answers in
// OpenAI's format, a word at a time, and forgets a client whose connection is lost.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

// maxBody limits a request's body in bytes.
const maxBody = 64 << 10

func main() {
	listen := flag.String("listen", "127.0.0.1:9001", "address to listen on")
	pace := flag.Duration("pace", 100*time.Millisecond, "time that a word takes")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, *pace, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "tokens:", err)
		stop()
		os.Exit(1)
	}
}

// run serves until ctx ends, which also cuts the responses that are being written.
func run(ctx context.Context, listen string, pace time.Duration, stdout io.Writer) error {
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	server := &http.Server{Handler: routes(pace), ReadHeaderTimeout: 5 * time.Second}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	fmt.Fprintf(stdout, "tokens: listening on http://%s\n", listener.Addr())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func routes(pace time.Duration) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, `{"object":"list","data":[{"id":"stand-in","object":"model"}]}`+"\n")
	})
	mux.HandleFunc("POST /v1/chat/completions", func(w http.ResponseWriter, r *http.Request) {
		complete(w, r, pace)
	})
	return mux
}

// completion is a request for an answer: the part of OpenAI's format that counts
// here.
type completion struct {
	Messages []struct {
		Content string `json:"content"`
	} `json:"messages"`
}

// complete sends an answer to the last message, an event for each word, and then
// [DONE].
func complete(w http.ResponseWriter, r *http.Request, pace time.Duration) {
	var c completion
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&c)
	if err != nil || len(c.Messages) == 0 {
		http.Error(w, `the body must be JSON such as {"messages":[{"role":"user","content":"Hello"}],"stream":true}`, http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for _, word := range strings.SplitAfter(answer(c.Messages[len(c.Messages)-1].Content), " ") {
		select {
		case <-r.Context().Done():
			return
		case <-time.After(pace):
		}
		writeChunk(w, word)
	}
	_, _ = io.WriteString(w, "data: [DONE]\n\n")
}

// writeChunk sends a piece of the answer at once. It ignores errors of the
// connection: the request's context ends with it.
func writeChunk(w http.ResponseWriter, text string) {
	chunk := map[string]any{
		"object":  "chat.completion.chunk",
		"choices": []any{map[string]any{"index": 0, "delta": map[string]string{"content": text}}},
	}
	data, err := json.Marshal(chunk)
	if err != nil {
		panic(err) // it consists of strings
	}
	_, _ = fmt.Fprintf(w, "data: %s\n\n", data)
	_ = http.NewResponseController(w).Flush()
}

// answer returns what this model knows about everything.
func answer(question string) string {
	return fmt.Sprintf("You asked: “%s”\n\n", question) + `I am a stand-in, so I know only about this page. ` +
		`My server sends each word once, to one connection, and forgets it. ` +
		`Caddy reads the words and keeps them for a while. ` +
		`So cut the connection, reload this page or Caddy, or open a second tab while I write: ` +
		`each shows the words that it has missed, and then the next ones as I find them. ` +
		`Close all of them, and come back within a minute: I have gone on, because Caddy has gone on reading. ` +
		`And my server was asked once.`
}
