package known

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"
)

// The file of a Memory; all numbers are little-endian.
//
//	 0  magic    [8]byte
//	 8  born     int64         when the memory began: Unix time in seconds
//	16  hashes   n × uint64    those that were seen last are at the end
//	    check    uint32        CRC32C of all before it
const (
	memoryMagic     = "\xffweir\xfefp"
	memoryFixedSize = 16 + 4
)

var (
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
	errDamaged = errors.New("it is damaged")
	errForeign = errors.New("it is no memory of fingerprints, and stays as it is")
)

func formatMemory(born time.Time, hashes []uint64) []byte {
	b := make([]byte, 0, memoryFixedSize+8*len(hashes))
	b = append(b, memoryMagic...)
	b = binary.LittleEndian.AppendUint64(b, uint64(born.Unix()))
	for _, hash := range hashes {
		b = binary.LittleEndian.AppendUint64(b, hash)
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// parseMemory reads what formatMemory wrote. Its error is errForeign if that was somebody else's, else errDamaged.
func parseMemory(b []byte) (born time.Time, hashes []uint64, err error) {
	if len(b) > 0 && !bytes.HasPrefix(b, []byte(memoryMagic)) {
		return time.Time{}, nil, errForeign
	}
	body := len(b) - 4
	if len(b) < memoryFixedSize || len(b) > memoryFixedSize+8*maxRemembered || (len(b)-memoryFixedSize)%8 != 0 ||
		binary.LittleEndian.Uint32(b[body:]) != crc32.Checksum(b[:body], castagnoli) {
		return time.Time{}, nil, errDamaged
	}
	born = time.Unix(int64(binary.LittleEndian.Uint64(b[8:])), 0)
	for at := 16; at < body; at += 8 {
		hashes = append(hashes, binary.LittleEndian.Uint64(b[at:]))
	}
	return born, hashes, nil
}

// replaceFile leaves the old file or the new one at path, whatever ends the process or the machine meanwhile.
func replaceFile(path string, content []byte) error {
	next := path + ".new"
	file, err := os.OpenFile(next, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = file.Write(content)
	if err == nil {
		err = file.Sync()
	}
	if err = errors.Join(err, file.Close()); err != nil {
		return err
	}
	if err := os.Rename(next, path); err != nil {
		return err
	}
	return syncDir(filepath.Dir(path))
}

func syncDir(path string) error {
	dir, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(dir.Sync(), dir.Close())
}
