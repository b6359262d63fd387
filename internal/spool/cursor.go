package spool

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// The cursor is a file that says which positions are settled: acknowledged, or dropped for a reason that was counted.
//
//	 0  magic    [8]byte
//	 8  next     uint64            no record had this position or a higher one
//	16  spans    n × 2 × uint64    first and last of each run of settled positions, ascending
//	    check    uint32            CRC32C of all before it
//
// It is replaced as a whole by renaming, every second at most and before a segment is removed. A cursor that is old or
// missing does no harm but that records are sent again.
const (
	cursorName      = "cursor"
	cursorNewName   = "cursor.new"
	cursorMagic     = "\xffweir\xfecu"
	cursorMaxBytes  = 64 << 20 // of a cursor that is believed: far more spans than senders leave
	cursorFixedSize = 16 + 4
)

type cursor struct {
	next    Seq
	settled spans
}

func (c *cursor) append(b []byte) []byte {
	b = append(b, cursorMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.next))
	for _, x := range c.settled {
		b = binary.LittleEndian.AppendUint64(b, uint64(x.first))
		b = binary.LittleEndian.AppendUint64(b, uint64(x.last))
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b))
}

var errCursor = errors.New("the cursor is damaged")

func parseCursor(b []byte) (*cursor, error) {
	body := len(b) - 4
	if len(b) < cursorFixedSize || (len(b)-cursorFixedSize)%16 != 0 || string(b[:8]) != cursorMagic ||
		binary.LittleEndian.Uint32(b[body:]) != checksum(b[:body]) {
		return nil, errCursor
	}
	c := &cursor{next: Seq(binary.LittleEndian.Uint64(b[8:]))}
	if c.next > maxSeq {
		return nil, errCursor
	}
	lowest := Seq(1)
	for at := 16; at < body; at += 16 {
		x := span{Seq(binary.LittleEndian.Uint64(b[at:])), Seq(binary.LittleEndian.Uint64(b[at+8:]))}
		if x.first < lowest || x.last < x.first || x.last >= c.next {
			return nil, errCursor
		}
		c.settled = append(c.settled, x)
		lowest = x.last + 2
	}
	return c, nil
}

func (s *Spool) loadCursor(size int64) (*cursor, error) {
	if size > cursorMaxBytes {
		return nil, errCursor
	}
	file, err := s.fs.Open(cursorName, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	b := make([]byte, size)
	if _, err := file.ReadAt(b, 0); err != nil {
		return nil, err
	}
	return parseCursor(b)
}

// saveCursor replaces the cursor, and forces it to the disk if that is asked for.
func (s *Spool) saveCursor(force bool) error {
	c := cursor{next: s.next, settled: s.settled}
	err := s.replaceCursor(c.append(nil), force)
	s.report(opCursor, err)
	if err != nil {
		return fmt.Errorf("save the cursor: %w", err)
	}
	s.unsaved, s.ahead = false, false
	return nil
}

func (s *Spool) replaceCursor(content []byte, force bool) error {
	if err := s.fs.Remove(cursorNewName); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	file, err := s.fs.Open(cursorNewName, os.O_WRONLY|os.O_CREATE|os.O_EXCL)
	if err != nil {
		return err
	}
	_, err = file.WriteAt(content, 0)
	if err == nil && force {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := s.fs.Rename(cursorNewName, cursorName); err != nil || !force {
		return err
	}
	return s.fs.Sync()
}
