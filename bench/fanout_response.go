package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// response reads an HTTP/1.1 response with a stream. It understands only what
// servers of streams send: a head, then chunks, or bytes until the end.
type response struct {
	head    []byte // until it is complete
	opened  bool
	chunked bool
	size    []byte // the line with a chunk's size, as far as it has come
	rest    int    // bytes of the chunk that have not come yet
	marks   marks
}

const maxResponseHead = 16 << 10

// read reads the next bytes and appends the numbers of the events whose marks end
// in them.
func (r *response) read(data []byte, numbers []uint32) ([]uint32, error) {
	if !r.opened {
		r.head = append(r.head, data...)
		head, rest, complete := bytes.Cut(r.head, []byte("\r\n\r\n"))
		if !complete {
			if len(r.head) > maxResponseHead {
				return numbers, errors.New("the response's head is too long")
			}
			return numbers, nil
		}
		if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
			return numbers, fmt.Errorf("the response is not a stream: %q", r.head)
		}
		r.chunked = bytes.Contains(bytes.ToLower(head), []byte("transfer-encoding: chunked"))
		r.opened, r.head, data = true, nil, rest
	}
	if !r.chunked {
		return r.marks.find(data, numbers), nil
	}
	return r.readChunks(data, numbers)
}

func (r *response) readChunks(data []byte, numbers []uint32) ([]uint32, error) {
	for len(data) > 0 {
		if r.rest > 0 {
			n := min(r.rest, len(data))
			numbers = r.marks.find(data[:n], numbers)
			r.rest, data = r.rest-n, data[n:]
			continue
		}
		end := bytes.IndexByte(data, '\n')
		if end < 0 {
			r.size = append(r.size, data...)
			return numbers, nil
		}
		line := data[:end]
		if len(r.size) > 0 {
			line = append(r.size, line...)
		}
		data = data[end+1:]
		r.size = r.size[:0]
		if line = bytes.TrimSpace(line); len(line) == 0 { // the end of the chunk before
			continue
		}
		size, err := strconv.ParseUint(string(line), 16, 31)
		if err != nil {
			return numbers, fmt.Errorf("chunk: %w", err)
		}
		if size == 0 {
			return numbers, errors.New("the stream has ended")
		}
		r.rest = int(size)
	}
	return numbers, nil
}
