package deliver

import (
	"bytes"
	"encoding/binary"
	"errors"
	"time"
)

// A batch on disk is a record of: the version (1 byte), the length of the ID (1 byte), the ID, the Unix time at which
// the batch was complete in nanoseconds (8 bytes, little-endian), and its lines.
const recordVersion = 1

// appendRecord appends a batch as a record. Its ID has at most 255 bytes.
func appendRecord(dst []byte, b *Batch, sealed time.Time) []byte {
	dst = append(dst, recordVersion, byte(len(b.ID)))
	dst = append(dst, b.ID...)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(sealed.UnixNano()))
	return append(dst, b.Lines...)
}

var errRecord = errors.New("not a batch of this version")

// parseRecord reads a record, which the batch then shares.
func parseRecord(record []byte) (b *Batch, sealed time.Time, err error) {
	if len(record) < 2 || record[0] != recordVersion {
		return nil, time.Time{}, errRecord
	}
	id, rest := record[2:], []byte(nil)
	if n := int(record[1]); n+8 <= len(id) {
		id, rest = id[:n], id[n:]
	}
	if rest == nil || !isKey(id) {
		return nil, time.Time{}, errRecord
	}
	sealed = time.Unix(0, int64(binary.LittleEndian.Uint64(rest)))
	lines := rest[8:]
	events := bytes.Count(lines, []byte{'\n'})
	if events == 0 || lines[len(lines)-1] != '\n' {
		return nil, time.Time{}, errRecord
	}
	return &Batch{ID: string(id), Lines: lines, Events: events}, sealed, nil
}

// isKey says whether id can stand in a header: it is there as it comes from the disk.
func isKey(id []byte) bool {
	for _, c := range id {
		if c != '-' && (c < '0' || c > '9') && (c < 'A' || c > 'Z') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return len(id) > 0
}
