package markup

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"reflect"
	"unsafe"

	"golang.org/x/net/html"
)

// ErrMemory is returned for a page whose elements take too much memory.
var ErrMemory = errors.New("the page has too many formatting elements, such as <b>, <i> or <font>, that are not closed where they should be: " +
	"each element after them has them all again. Close them")

const (
	// treePerByte is how many bytes the tree may take for each byte of a page.
	// Without such elements it takes up to 56, for <p>x, and mostly less than 15.
	treePerByte = 64
	// minTree is how many bytes the tree of any page may take: 1 MiB.
	minTree = 1 << 20
)

// parseHTML parses a page. It fails with [ErrMemory] if the tree exceeds
// treePerByte; at no time does the tree take more than twice as much.
//
// Where an element ends, a parser opens the formatting elements again that were
// open in it (https://html.spec.whatwg.org/#reconstruct-the-active-formatting-elements):
// the tree of a page of 100 KiB with 400 different <b> takes half a gigabyte.
func parseHTML(ctx context.Context, text []byte) (*html.Node, error) {
	w := &watch{ctx: ctx, rest: text, max: minTree + treePerByte*len(text)}
	root, err := html.ParseWithOptions(w, observe(&w.parser))
	if err == nil {
		err = w.check()
	}
	return root, err
}

// parser is what a parser has made so far.
type parser struct {
	document   *html.Node
	formatting reflect.Value // the list of active formatting elements
}

// observe returns an option that shows what a parser makes, and changes nothing.
// The html package neither limits a tree nor shows it before it is whole.
func observe(p *parser) html.ParseOption {
	return reflect.MakeFunc(reflect.TypeFor[html.ParseOption](), func(args []reflect.Value) []reflect.Value {
		fields := args[0].Elem()
		p.document = (*html.Node)(fields.FieldByName("doc").UnsafePointer())
		p.formatting = fields.FieldByName("afe")
		return nil
	}).Interface().(html.ParseOption)
}

// checkParser fails if the html package is another version, whose parser has no
// such fields.
func checkParser() (err error) {
	another := errors.New("select css doesn't work in this build, whose version of golang.org/x/net/html is too new: build with the version in go.mod")
	defer func() {
		if recover() != nil {
			err = another
		}
	}()
	var p parser
	root, err := html.ParseWithOptions(bytes.NewReader(nil), observe(&p))
	if err != nil || p.document != root || p.formatting.Len() > 0 {
		return another
	}
	return nil
}

// watch gives a page to a parser in small pieces, and counts in between what the
// tree takes.
type watch struct {
	parser
	ctx    context.Context
	rest   []byte
	max    int // bytes of the tree
	grown  int // bytes that the tree may have grown by since it was counted
	unread int // bytes of the last tag that the parser has, which may be incomplete
}

func (w *watch) Read(b []byte) (int, error) {
	switch {
	case w.ctx.Err() != nil:
		return 0, context.Cause(w.ctx)
	case len(w.rest) == 0:
		return 0, io.EOF
	}
	piece, tags := firstTags(w.rest[:min(len(b), len(w.rest))])
	if w.grown += w.growth(tags+1, w.unread+len(piece)); w.grown > w.max {
		if err := w.check(); err != nil {
			return 0, err
		}
	}
	if last := bytes.LastIndexByte(piece, '<'); last >= 0 {
		w.unread = len(piece) - last
	} else {
		w.unread += len(piece)
	}
	w.rest = w.rest[len(piece):]
	return copy(b, piece), nil
}

// firstTags returns the part of a text that has its first tags, and their number.
func firstTags(text []byte) (part []byte, tags int) {
	const most = 16
	for at, c := range text {
		if c == '<' {
			if tags == most {
				return text[:at], tags
			}
			tags++
		}
	}
	return text, tags
}

// growth returns how many bytes the tree grows by at most for so many tags.
//
// A tag makes an element and a few that it implies, and a text may follow. Both
// can open all active formatting elements again, as far as the parser allows so
// many open ones. An end tag can repeat four of them eight times (the adoption
// agency algorithm). The tags themselves may be such elements; an attribute takes
// two bytes or more.
func (w *watch) growth(tags, bytes int) int {
	const implied, maxOpen, adopted = 4, 512, 8 * 4
	elements, attributes := tags, bytes/2
	for i := range w.formatting.Len() {
		elements++
		attributes += len((*html.Node)(w.formatting.Index(i).UnsafePointer()).Attr)
	}
	nodes := implied + 2*min(elements, maxOpen) + adopted
	return tags * (nodes*sizeOfNode + 2*attributes*sizeOfAttribute)
}

// check counts what the tree takes, and fails if that is too much.
func (w *watch) check() error {
	w.grown = 0
	size := 0
	for node := w.document; node != nil; node = next(node, w.document, true) {
		if size += sizeOfNode + len(node.Attr)*sizeOfAttribute; size > w.max {
			return fmt.Errorf("%w (they take more than %d bytes)", ErrMemory, w.max)
		}
	}
	return nil
}

const (
	sizeOfNode      = int(unsafe.Sizeof(html.Node{}))
	sizeOfAttribute = int(unsafe.Sizeof(html.Attribute{}))
)
