package store

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// The parts of a bbolt page: a header (number, kind, count, overflow), then
// count elements of 16 bytes, then what they refer to. A page of the tree that
// needs more room extends into the following pages, as many as overflow says.
const (
	pageHeader  = 16
	pageElement = 16

	branchPage   = 0x01
	leafPage     = 0x02
	freelistPage = 0x10

	bucketElement = 1 // the flags of a leaf's element that is a bucket
)

// verify checks the structure of a database: that each page is what it must be,
// that all keys can be found, and that no page is used twice, as part of the
// tree or of the list of free pages. bbolt checks little of it: a page that is
// both free and in use is overwritten by the next append, and a wrong count
// makes bbolt allocate memory without limit. verify reads the file and not its
// memory map, so that nothing in it can cause a fault. It reads no values.
func verify(file io.ReaderAt, size int64, m dbMeta) error {
	if m.pageSize < 512 || m.pageSize > 1<<24 || m.pages > uint64(size/m.pageSize) {
		return fmt.Errorf("%w: it has %d bytes instead of %d pages of %d", ErrDamaged, size, m.pages, m.pageSize)
	}
	v := verifier{file: file, meta: m, used: make([]bool, m.pages)}
	v.used[0], v.used[1] = true, true
	if err := v.tree(m.root, nil, nil); err != nil {
		return fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if err := v.freelist(); err != nil {
		return fmt.Errorf("%w: the list of free pages: %w", ErrDamaged, err)
	}
	return nil
}

type verifier struct {
	file io.ReaderAt
	meta dbMeta
	used []bool // by page
}

// page is a page, or the part of a leaf's value that is a bucket's only page.
type page struct {
	file     io.ReaderAt
	at, size int64
	start    []byte // its first bytes
	kind     uint16
	count    int
}

// use marks a page as used, which it may be only once.
func (v *verifier) use(id uint64) error {
	if id >= uint64(len(v.used)) || v.used[id] {
		return fmt.Errorf("page %d of %d is out of range or used twice", id, len(v.used))
	}
	v.used[id] = true
	return nil
}

// load reads a page's header and elements, and marks the page as used.
func (v *verifier) load(id uint64) (page, error) {
	p := page{file: v.file, at: int64(id) * v.meta.pageSize, size: v.meta.pageSize}
	if err := v.use(id); err != nil {
		return p, err
	}
	if err := p.init(v.meta.pageSize); err != nil {
		return p, fmt.Errorf("page %d: %w", id, err)
	}
	if found := binary.NativeEndian.Uint64(p.start); found != id {
		return p, fmt.Errorf("page %d says that it is page %d", id, found)
	}
	overflow := uint64(binary.NativeEndian.Uint32(p.start[12:]))
	if overflow >= uint64(len(v.used)) {
		return p, fmt.Errorf("page %d extends beyond the file", id)
	}
	for next := id + 1; next <= id+overflow; next++ {
		if err := v.use(next); err != nil {
			return p, err
		}
		p.size += v.meta.pageSize
	}
	return p, nil
}

// init reads the page's header, and up to n bytes at once.
func (p *page) init(n int64) error {
	p.start = make([]byte, min(n, p.size))
	if len(p.start) < pageHeader {
		return errors.New("it is too short")
	}
	if _, err := p.file.ReadAt(p.start, p.at); err != nil {
		return err
	}
	p.kind, p.count = binary.NativeEndian.Uint16(p.start[8:]), int(binary.NativeEndian.Uint16(p.start[10:]))
	return nil
}

// bytes returns n bytes of the page.
func (p *page) bytes(from, n int64) ([]byte, error) {
	switch end := from + n; {
	case from < 0 || n < 0 || end > p.size:
		return nil, fmt.Errorf("there are no %d bytes at %d in its %d bytes", n, from, p.size)
	case end <= int64(len(p.start)):
		return p.start[from:end], nil
	default:
		b := make([]byte, n)
		_, err := p.file.ReadAt(b, p.at+from)
		return b, err
	}
}

// element is a part of a branch or of a leaf.
type element struct {
	key     []byte
	child   uint64 // of a branch: a page
	flags   uint32 // of a leaf
	valueAt int64  // of a leaf: where in the page the value is
	valueN  int64
}

func (p *page) element(i int) (e element, err error) {
	at := pageHeader + int64(i)*pageElement
	b, err := p.bytes(at, pageElement)
	if err != nil {
		return e, err
	}
	word := func(i int) int64 { return int64(binary.NativeEndian.Uint32(b[i:])) }
	var keyN int64
	if p.kind == branchPage {
		e.valueAt, keyN, e.child = word(0), word(4), binary.NativeEndian.Uint64(b[8:])
	} else {
		e.flags, e.valueAt, keyN, e.valueN = binary.NativeEndian.Uint32(b), word(4), word(8), word(12)
	}
	if keyN == 0 {
		return e, errors.New("a key is empty")
	}
	if e.key, err = p.bytes(at+e.valueAt, keyN); err != nil {
		return e, err
	}
	e.valueAt += at + keyN
	if e.valueAt+e.valueN > p.size {
		return e, errors.New("a value is longer than its page")
	}
	return e, nil
}

// tree checks the pages from one down. Their keys must be at least low and less
// than high; nil is no limit.
func (v *verifier) tree(id uint64, low, high []byte) error {
	p, err := v.load(id)
	if err == nil {
		err = v.elements(&p, low, high)
	}
	if err != nil {
		return fmt.Errorf("page %d: %w", id, err)
	}
	return nil
}

func (v *verifier) elements(p *page, low, high []byte) error {
	if p.kind != branchPage && p.kind != leafPage {
		return fmt.Errorf("it is of the kind %x", p.kind)
	}
	if p.kind == branchPage && p.count == 0 {
		return errors.New("it leads nowhere")
	}
	all := make([]element, p.count)
	for i := range all {
		var err error
		if all[i], err = p.element(i); err != nil {
			return err
		}
	}
	for i, e := range all {
		if low != nil && bytes.Compare(e.key, low) < 0 || high != nil && bytes.Compare(e.key, high) >= 0 {
			return fmt.Errorf("its key %x is not between %x and %x", e.key, low, high)
		}
		next := high
		if i+1 < len(all) {
			if next = all[i+1].key; bytes.Compare(e.key, next) >= 0 {
				return fmt.Errorf("its keys %x and %x are out of order", e.key, next)
			}
		}
		if err := v.below(p, e, next); err != nil {
			return err
		}
	}
	return nil
}

// below checks what an element leads to: a branch to a page whose keys are less
// than next, a leaf to a value or to a bucket.
func (v *verifier) below(p *page, e element, next []byte) error {
	switch {
	case p.kind == branchPage:
		return v.tree(e.child, e.key, next)
	case e.flags != bucketElement:
		return nil
	}
	const bucketHeader = 16 // the root page and the sequence
	header, err := p.bytes(e.valueAt, bucketHeader)
	if err != nil || e.valueN < bucketHeader {
		return errors.Join(fmt.Errorf("the bucket %q is too short", e.key), err)
	}
	if root := binary.NativeEndian.Uint64(header); root != 0 {
		return v.tree(root, nil, nil)
	}
	inline := page{file: p.file, at: p.at + e.valueAt + bucketHeader, size: e.valueN - bucketHeader}
	if err := inline.init(inline.size); err != nil {
		return fmt.Errorf("the bucket %q: %w", e.key, err)
	}
	if inline.kind != leafPage {
		return fmt.Errorf("the bucket %q is of the kind %x", e.key, inline.kind)
	}
	return v.elements(&inline, nil, nil)
}

// freelist checks that the list of free pages contains pages that are in no
// other use.
func (v *verifier) freelist() error {
	p, err := v.load(v.meta.freelist)
	if err != nil {
		return err
	}
	if p.kind != freelistPage {
		return fmt.Errorf("page %d is of the kind %x", v.meta.freelist, p.kind)
	}
	first, count := int64(pageHeader), uint64(p.count)
	if count == 0xFFFF { // the count is the first element
		b, err := p.bytes(first, 8)
		if err != nil {
			return err
		}
		first, count = first+8, binary.NativeEndian.Uint64(b)
	}
	if count > uint64(len(v.used)) {
		return fmt.Errorf("it has %d pages of %d", count, len(v.used))
	}
	ids, err := p.bytes(first, int64(count)*8)
	for ; err == nil && len(ids) > 0; ids = ids[8:] {
		err = v.use(binary.NativeEndian.Uint64(ids))
	}
	return err
}
