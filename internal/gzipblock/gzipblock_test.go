package gzipblock_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/caddy-sse/caddy-sse/internal/gzipblock"
)

// decode returns the text of a complete response, or fails.
func decode(t testing.TB, response []byte) string {
	t.Helper()
	r, err := gzip.NewReader(bytes.NewReader(response))
	if err != nil {
		t.Fatal(err)
	}
	r.Multistream(false)
	text, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// appendText appends a text as a stream does.
func appendText(s *gzipblock.Stream, dst []byte, text string) []byte {
	b := gzipblock.Compress([]byte(text))
	if b == nil {
		return s.AppendStored(dst, []byte(text))
	}
	s.Add(b)
	return append(dst, b.Bytes()...)
}

func order(i int) string {
	return fmt.Sprintf(`data: {"id":%d,"status":"shipped","total":%d,"items":["%s"]}`+"\n\n", i, i*37, strings.Repeat("blue chair,", i%40))
}

func TestAnySequenceIsOneMember(t *testing.T) {
	var s gzipblock.Stream
	response, want := gzipblock.AppendHeader(nil), ""
	for i := range 500 {
		response = appendText(&s, response, order(i))
		want += order(i)
	}
	incompressible := make([]byte, 200_000)
	for i := range incompressible {
		incompressible[i] = byte(rand.Uint32())
	}
	for _, text := range []string{"", "x", strings.Repeat("y", 100_000), string(incompressible)} {
		response = appendText(&s, response, text)
		want += text
	}
	if got := decode(t, s.AppendTrailer(response)); got != want {
		t.Errorf("got %d bytes, want %d", len(got), len(want))
	}
	if len(response) > 200_000+len(want)/5 {
		t.Errorf("%d bytes for %d", len(response), len(want))
	}
}

// TestSharedBlocksFitAnywhere: two streams send what a third one has sent.
func TestSharedBlocksFitAnywhere(t *testing.T) {
	var batch gzipblock.Stream
	data := appendText(&batch, appendText(&batch, nil, order(3)), order(39))
	block := batch.Block(data)
	for _, before := range []string{"", "retry: 3000\n", order(38)} {
		var s gzipblock.Stream
		response := appendText(&s, gzipblock.AppendHeader(nil), before)
		s.Add(block)
		response = appendText(&s, append(response, block.Bytes()...), "id: 7\n\n")
		if got, want := decode(t, s.AppendTrailer(response)), before+order(3)+order(39)+"id: 7\n\n"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestSmallAndIncompressibleTextsAreNotCompressed(t *testing.T) {
	random := make([]byte, 1000)
	for i := range random {
		random[i] = byte(rand.Uint32())
	}
	for _, text := range []string{"", "retry: 3000\n", strings.Repeat("x", gzipblock.MinSize-1), string(random)} {
		if gzipblock.Compress([]byte(text)) != nil {
			t.Errorf("%d bytes are compressed", len(text))
		}
	}
	if gzipblock.Compress([]byte(strings.Repeat("x", gzipblock.MinSize))) == nil {
		t.Error("a text of the minimum size is not compressed")
	}
}

// TestTextIsReadBeforeTheNextComes: a decoder that has read a text gives it out,
// although the response goes on.
func TestTextIsReadBeforeTheNextComes(t *testing.T) {
	for _, text := range []string{"retry: 3000\n", order(39), strings.Repeat("z", 70_000), order(1) + order(39)} {
		from, to := io.Pipe()
		go func() {
			var s gzipblock.Stream
			_, _ = to.Write(appendText(&s, gzipblock.AppendHeader(nil), text))
		}()
		r, err := gzip.NewReader(from)
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(text))
		if _, err := io.ReadFull(r, got); err != nil || string(got) != text { // it would block for ever
			t.Errorf("got %q, %v", got, err)
		}
		from.Close()
	}
}

// FuzzSequence decodes any sequence of texts, of which some are joined to a block
// first.
func FuzzSequence(f *testing.F) {
	f.Add([]byte("retry: 3000\n"), []byte(order(3)), []byte(order(39)), uint16(1))
	f.Add([]byte{}, bytes.Repeat([]byte{0}, 300), []byte{0xff}, uint16(700))
	f.Fuzz(func(t *testing.T, a, b, c []byte, repeat uint16) {
		texts := []string{string(a), string(b), string(c), strings.Repeat(string(b), int(repeat)%1000), string(a)}
		var s, batch gzipblock.Stream
		response := gzipblock.AppendHeader(nil)
		for _, text := range texts {
			response = appendText(&s, response, text)
		}
		block := batch.Block(appendText(&batch, appendText(&batch, nil, texts[1]), texts[3]))
		s.Add(block)
		response = appendText(&s, append(response, block.Bytes()...), texts[2])
		want := strings.Join(texts, "") + texts[1] + texts[3] + texts[2]
		if got := decode(t, s.AppendTrailer(response)); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func BenchmarkCompress(b *testing.B) {
	for _, n := range []int{300, 1000, 10_000, 100_000} {
		var text []byte
		for i := 0; len(text) < n; i++ {
			text = append(text, order(i)...)
		}
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				gzipblock.Compress(text)
			}
		})
	}
}

// BenchmarkAdd is the cost of a shared block for each stream that sends it.
func BenchmarkAdd(b *testing.B) {
	block := gzipblock.Compress([]byte(strings.Repeat(order(39), 20)))
	var s gzipblock.Stream
	for b.Loop() {
		s.Add(block)
	}
}

func BenchmarkAppendStored(b *testing.B) {
	text := []byte(order(1))
	var s gzipblock.Stream
	var dst []byte
	for b.Loop() {
		dst = s.AppendStored(dst[:0], text)
	}
}
