package spool

import (
	"bytes"
	"errors"
	"io"
	"math"
	"slices"
)

// scanner finds the records of a segment, whatever happened to it.
type scanner struct {
	file   io.ReaderAt
	size   int64
	window []byte // a part of the file
	at     int64  // where in the file window begins

	good    []entry
	torn    []entry // whose header is whole, but not the rest
	highest Seq     // position that a record had for sure; 0: none is known
	err     error   // the first that kept bytes from being read
}

// scan reads the headers of a segment's records from offset on. Where there is none, it looks for the next. It reads no
// byte more than twice or so: what a damaged length says is not believed, as a header has a check, and a header that
// leads out of the file is not followed.
func (sc *scanner) scan(offset int64) {
	stray := false // bytes that belong to no record, behind the last
	for offset < sc.size {
		h, ok := parseRecordHeader(sc.view(offset, recordHeaderSize))
		if ok {
			sc.highest = max(sc.highest, h.seq)
			stray = false
			e := newEntry(&h, offset)
			if offset+e.size() <= sc.size {
				sc.good = append(sc.good, e)
				offset += e.size()
				continue
			}
			sc.torn = append(sc.torn, e)
		} else {
			stray = true
		}
		offset = sc.seek(offset + 1)
	}
	if stray && sc.highest > 0 {
		sc.highest++ // at least one record was there
	}
}

// view returns n bytes of the file at offset, or as many as there are.
func (sc *scanner) view(offset int64, n int) []byte {
	n = int(min(int64(n), sc.size-offset))
	if offset < sc.at || offset+int64(n) > sc.at+int64(len(sc.window)) {
		sc.load(offset)
	}
	return sc.window[offset-sc.at : min(offset-sc.at+int64(n), int64(len(sc.window)))]
}

// load moves the window to offset, as far as the file can be read there.
func (sc *scanner) load(offset int64) {
	n := min(windowBytes, sc.size-offset)
	sc.window = slices.Grow(sc.window[:0], int(n))[:n]
	read, err := sc.file.ReadAt(sc.window, offset)
	if err != nil && !errors.Is(err, io.EOF) && sc.err == nil {
		sc.err = err
	}
	sc.window, sc.at = sc.window[:read], offset
}

// seek returns where something that looks like a record begins, at offset or after it, or the end of the file.
func (sc *scanner) seek(offset int64) int64 {
	for offset+recordHeaderSize <= sc.size {
		if len(sc.view(offset, len(recordMagic))) < len(recordMagic) {
			offset = (offset/sector + 1) * sector // it cannot be read
			continue
		}
		if i := bytes.Index(sc.window[offset-sc.at:], recordMagic); i >= 0 {
			return offset + int64(i)
		}
		offset = sc.at + int64(len(sc.window)-len(recordMagic)) + 1
	}
	return sc.size
}

const (
	windowBytes = 32 << 10

	sector  = 512            // what a disk loses at least
	maxScan = math.MaxUint32 // bytes that are looked at of a file: offsets have 32 bits
)
