package spool_test

import (
	"testing"

	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

// FuzzOpen opens whatever may be in a spool's directory. All that it holds can be delivered, and it can be used.
func FuzzOpen(f *testing.F) {
	disk := testdisk.New()
	config := spool.Config{Dir: f.TempDir(), MaxBytes: 1 << 20, Sync: spool.Never, Log: zap.NewNop()}
	s := open(f, config, disk)
	for _, record := range []string{"first", "", "third"} {
		mustAppend(f, s, record)
	}
	s.Ack(2)
	if err := s.Close(); err != nil {
		f.Fatal(err)
	}
	files := disk.Files()
	f.Add(files["0000000000000001.seg"], files["0000000000000001.seg"], files["cursor"])
	f.Add(files["0000000000000001.seg"][24:], []byte{}, encodeCursor(1<<61))
	f.Fuzz(func(t *testing.T, first, second, cursor []byte) {
		disk := testdisk.New()
		disk.Put("0000000000000001.seg", first)
		disk.Put("0000000000000003.seg", second)
		disk.Put("cursor", cursor)
		s := open(t, config, disk)
		drain(t, s)
		seq := mustAppend(t, s, "new")
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		compare(t, open(t, config, disk), map[spool.Seq]string{seq: "new"}, 0)
	})
}
