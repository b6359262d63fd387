package spool

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"weir/internal/stall"
)

// A segment is a file of records in the order of their positions. Its name is the first of them, in 16 hexadecimal
// digits. It begins with a header:
//
//	 0  magic    [8]byte
//	 8  version  uint32
//	12  check    uint32   CRC32C of version and first
//	16  first    uint64   position of the first record
//
// A segment is written to the end and then never again, and removed as a whole.
const (
	segmentHeaderSize = 24
	segmentMagic      = "\xffweir\xfesg"
	segmentSuffix     = ".seg"
	formatVersion     = 1
)

type segment struct {
	first   Seq     // as its name says
	size    int64   // bytes of the file that are in use
	entries []entry // ascending; without those that were settled before the segment was opened
	doubt   spans   // positions that may be in the file but could not be read
	left    uint64  // positions in it that are not settled
	dirty   bool    // was written since it was last forced to the disk
}

// entry is what is kept in memory of a record: 24 bytes, as there may be millions.
type entry struct {
	seq     Seq
	offset  uint32 // of its header in the segment
	length  uint32 // of its payload
	events  uint32
	seconds uint32 // Unix time of its Append
}

func newEntry(h *recordHeader, offset int64) entry {
	return entry{seq: h.seq, offset: uint32(offset), length: h.length, events: h.events, seconds: uint32(h.time / 1e9)}
}

func (e entry) size() int64 { return recordHeaderSize + int64(e.length) }

// from returns the index of the first entry at seq or after it.
func (g *segment) from(seq Seq) int {
	i, _ := slices.BinarySearchFunc(g.entries, seq, func(e entry, seq Seq) int { return cmp.Compare(e.seq, seq) })
	return i
}

func segmentName(first Seq) string { return fmt.Sprintf("%016x%s", uint64(first), segmentSuffix) }

// parseSegmentName returns the position that the name of a segment stands for, or 0 if it is no such name.
func parseSegmentName(name string) Seq {
	first, err := strconv.ParseUint(strings.TrimSuffix(name, segmentSuffix), 16, 64)
	if err != nil || Seq(first) > maxSeq || segmentName(Seq(first)) != name {
		return 0
	}
	return Seq(first)
}

func segmentHeader(first Seq) []byte {
	b := append(make([]byte, 0, segmentHeaderSize), segmentMagic...)
	b = binary.LittleEndian.AppendUint32(b, formatVersion)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, uint64(first))
	binary.LittleEndian.PutUint32(b[12:], segmentCheck(b))
	return b
}

// parseSegmentHeader reads the header that b begins with, if it does.
func parseSegmentHeader(b []byte) (version uint32, first Seq, ok bool) {
	if len(b) < segmentHeaderSize || string(b[:8]) != segmentMagic || binary.LittleEndian.Uint32(b[12:]) != segmentCheck(b) {
		return 0, 0, false
	}
	return binary.LittleEndian.Uint32(b[8:]), Seq(binary.LittleEndian.Uint64(b[16:])), true
}

// segmentCheck leaves out the check itself, which stands in the midst.
func segmentCheck(b []byte) uint32 {
	return checksum(slices.Concat(b[8:12], b[16:segmentHeaderSize]))
}

// create makes an empty segment that begins with first. If that fails, no file is left, or one that recovery removes.
func (s *Spool) create(first Seq) (*segment, File, error) {
	name := segmentName(first)
	file, err := s.fs.Open(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		if errors.Is(err, stall.ErrStalled) { // even if the disk answers again by now
			s.burn() // the name may come into use
		}
		return nil, nil, fmt.Errorf("create segment: %w", err)
	}
	_, err = file.WriteAt(segmentHeader(first), 0)
	if err == nil && s.cfg.Sync == Always {
		err = s.fs.Sync()
	}
	if err != nil {
		file.Close()
		if s.fs.Remove(name) != nil {
			s.burn() // the name stays in use
		}
		return nil, nil, fmt.Errorf("begin segment %s: %w", name, err)
	}
	return &segment{first: first, size: segmentHeaderSize, dirty: true}, file, nil
}

// with calls do with a segment's file, opened for reading and for as long as that takes: a spool may have more segments
// than a process may have files open.
func (s *Spool) with(g *segment, do func(File) error) error {
	file, err := s.fs.Open(segmentName(g.first), os.O_RDONLY)
	if err != nil {
		return err
	}
	defer file.Close()
	return do(file)
}

// remove deletes a segment's file and takes it off the list.
func (s *Spool) remove(g *segment) error {
	err := s.fs.Remove(segmentName(g.first))
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	s.report(opRemove, err)
	if err != nil {
		return fmt.Errorf("remove segment: %w", err)
	}
	s.bytes -= g.size
	s.segments = slices.DeleteFunc(s.segments, func(x *segment) bool { return x == g })
	return nil
}

// reap removes the segments of which nothing is needed any more: all but the last, whose name keeps positions growing
// and the cursor credible when all else is gone. What is removed must be settled in the cursor before, or a restart
// would take it for lost. Where there is no room for the cursor, one segment goes before, to make it.
func (s *Spool) reap() {
	var idle []*segment
	for i, g := range s.segments {
		if g.left == 0 && i < len(s.segments)-1 {
			idle = append(idle, g)
		}
	}
	if len(idle) == 0 {
		return
	}
	err := s.saveCursor(false)
	if full(err) && !s.ahead {
		s.ahead = s.remove(idle[0]) == nil
		idle = idle[1:]
		err = s.saveCursor(false)
	}
	for _, g := range idle {
		if err != nil {
			return // reported; the next time tries again
		}
		err = s.remove(g)
	}
}

func full(err error) bool { return errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) }
