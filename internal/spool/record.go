package spool

import (
	"encoding/binary"
	"hash/crc32"
)

// Seq is the position of a record. Positions grow from 1 with every record, and none is given to two records.
type Seq uint64

// maxSeq bounds what is believed of positions that were read from a file, so that there is always room above.
const maxSeq Seq = 1 << 62

// A record on disk is a header and the bytes that were appended. All numbers are little-endian.
//
//	 0  magic    [4]byte
//	 4  check    uint32   CRC32C of the header from byte 8 on
//	 8  length   uint32   bytes that follow the header
//	12  sum      uint32   CRC32C of these bytes
//	16  events   uint32   what the caller said is in the record
//	20  seq      uint64
//	28  time     int64    of Append, Unix nanoseconds
//
// The header has a check of its own, so that recovery need not read the payload, and so that it is known what was lost
// with a damaged one.
const recordHeaderSize = 36

// recordMagic begins a record. It is no valid UTF-8, so text in a record cannot be taken for it.
var recordMagic = []byte{0xff, 'w', 0xfe, 'r'}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type recordHeader struct {
	length, sum, events uint32
	seq                 Seq
	time                int64
}

func (h *recordHeader) append(b []byte) []byte {
	start := len(b)
	b = append(b, recordMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint32(b, h.length)
	b = binary.LittleEndian.AppendUint32(b, h.sum)
	b = binary.LittleEndian.AppendUint32(b, h.events)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.seq))
	b = binary.LittleEndian.AppendUint64(b, uint64(h.time))
	binary.LittleEndian.PutUint32(b[start+4:], checksum(b[start+8:]))
	return b
}

// parseRecordHeader reads the header that b begins with, if it does.
func parseRecordHeader(b []byte) (h recordHeader, ok bool) {
	if len(b) < recordHeaderSize || string(b[:4]) != string(recordMagic) {
		return h, false
	}
	if binary.LittleEndian.Uint32(b[4:]) != checksum(b[8:recordHeaderSize]) {
		return h, false
	}
	h = recordHeader{
		length: binary.LittleEndian.Uint32(b[8:]),
		sum:    binary.LittleEndian.Uint32(b[12:]),
		events: binary.LittleEndian.Uint32(b[16:]),
		seq:    Seq(binary.LittleEndian.Uint64(b[20:])),
		time:   int64(binary.LittleEndian.Uint64(b[28:])),
	}
	return h, h.seq > 0 && h.seq <= maxSeq
}

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }
