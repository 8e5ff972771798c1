package store

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
)

// bbolt keeps the number of its newest transaction, and the place of the tree of
// that transaction, in a meta page. There are two, pages 0 and 1: transactions
// write them in turn. These are the offsets in a meta page, all numbers in the
// byte order of the machine.
const (
	metaStart    = 16 // after the page's header
	metaVersion  = 20
	metaPageSize = 24
	metaRoot     = 32
	metaFreelist = 48
	metaPages    = 56
	metaTx       = 64
	metaChecksum = 72
	metaEnd      = 80

	metaMagic         = 0xED0CDAED
	metaFormatVersion = 2
)

// dbMeta is a valid meta page.
type dbMeta struct {
	pageSize       int64
	root, freelist uint64 // pages
	pages          uint64 // the number of pages
	tx             uint64 // the number of the transaction that wrote it
}

// readMeta returns the newest of a file's two meta pages.
//
// Both must be valid, and of transactions that follow each other. bbolt itself
// is content with one: if the newer is damaged, it silently continues from the
// older, without the last transaction, whose positions would be used again. A
// crash doesn't leave an invalid meta page: the 80 bytes lie in the first
// sector of the page, which a disk writes whole or not at all, and bbolt writes
// it after everything else is on the disk.
//
// While another process writes the file, the pages that are read may not belong
// together. Then they differ a moment later, and readMeta fails with errChanged.
func readMeta(file io.ReaderAt) (dbMeta, error) {
	m, err := readMetaPages(file)
	if !errors.Is(err, ErrDamaged) {
		return m, err
	}
	if _, again := readMetaPages(file); again == nil || again.Error() != err.Error() {
		return dbMeta{}, errChanged
	}
	return dbMeta{}, err
}

func readMetaPages(file io.ReaderAt) (dbMeta, error) {
	first, err := readMetaPage(file, 0)
	if err != nil {
		return dbMeta{}, fmt.Errorf("meta page 0: %w", err)
	}
	second, err := readMetaPage(file, first.pageSize)
	if err != nil {
		return dbMeta{}, fmt.Errorf("meta page 1: %w", err)
	}
	switch {
	case first.tx == second.tx+1:
		return first, nil
	case second.tx == first.tx+1:
		return second, nil
	}
	return dbMeta{}, fmt.Errorf("%w: its meta pages are of the transactions %d and %d, which don't follow each other", ErrDamaged, first.tx, second.tx)
}

func readMetaPage(file io.ReaderAt, at int64) (dbMeta, error) {
	var page [metaEnd]byte
	if _, err := file.ReadAt(page[:], at); err != nil {
		if errors.Is(err, io.EOF) {
			err = fmt.Errorf("%w: the file ends before it", ErrDamaged)
		}
		return dbMeta{}, err
	}
	word := func(at int) uint32 { return binary.NativeEndian.Uint32(page[at:]) }
	long := func(at int) uint64 { return binary.NativeEndian.Uint64(page[at:]) }
	sum := fnv.New64a()
	_, _ = sum.Write(page[metaStart:metaChecksum])
	if word(metaStart) != metaMagic || word(metaVersion) != metaFormatVersion || long(metaChecksum) != sum.Sum64() {
		return dbMeta{}, fmt.Errorf("%w: it is not what was written", ErrDamaged)
	}
	return dbMeta{
		pageSize: int64(word(metaPageSize)),
		root:     long(metaRoot),
		freelist: long(metaFreelist),
		pages:    long(metaPages),
		tx:       long(metaTx),
	}, nil
}

// isChanged reports whether a file has been written since its meta page was meta.
func isChanged(file io.ReaderAt, meta dbMeta) bool {
	now, err := readMeta(file)
	return err == nil && now != meta || errors.Is(err, errChanged)
}
