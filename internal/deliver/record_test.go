package deliver

import (
	"bytes"
	"errors"
	"testing"
	"time"
)

func TestRecord(t *testing.T) {
	b := testBatch(3)
	sealed := time.Unix(1_700_000_000, 123_456_789)
	record := appendRecord(nil, b, sealed)
	got, at, err := parseRecord(record)
	if err != nil || got.ID != b.ID || !bytes.Equal(got.Lines, b.Lines) || got.Events != 3 || !at.Equal(sealed) {
		t.Errorf("parsed %+v of %s (%v)", got, at, err)
	}
	for n := range len(record) - len(b.Lines) + 1 {
		if _, _, err := parseRecord(record[:n]); !errors.Is(err, errRecord) {
			t.Errorf("of %d bytes: %v", n, err)
		}
	}
	for _, bad := range []func([]byte){
		func(r []byte) { r[0]++ },
		func(r []byte) { r[1] = 0 },
		func(r []byte) { r[1] = 255 },
		func(r []byte) { r[2] = '"' },
		func(r []byte) { r[len(r)-1] = 'x' },
	} {
		damaged := bytes.Clone(record)
		bad(damaged)
		if _, _, err := parseRecord(damaged); !errors.Is(err, errRecord) {
			t.Errorf("%q...: %v", damaged[:20], err)
		}
	}
}

// FuzzRecord holds that what is read from the disk is a batch that can be sent, or an error.
func FuzzRecord(f *testing.F) {
	f.Add(appendRecord(nil, testBatch(2), time.Unix(0, 1)))
	f.Add([]byte{recordVersion, 1, 'a', 0, 0, 0, 0, 0, 0, 0, 0, '\n'})
	f.Add([]byte{recordVersion, 255})
	f.Fuzz(func(t *testing.T, record []byte) {
		b, sealed, err := parseRecord(record)
		if err != nil {
			return
		}
		if again := appendRecord(nil, b, sealed); !bytes.Equal(again, record) {
			t.Errorf("%q is written as %q", record, again)
		}
		f := newFlight(b, sealed)
		for f.left > 0 {
			u := f.unit(true)
			if u.Events != 1 || bytes.IndexByte(u.Lines, '\n') != len(u.Lines)-1 {
				t.Fatalf("unit of %d events: %q", u.Events, u.Lines)
			}
			f.settle(u)
		}
		if len(f.unsettled) > 0 {
			t.Errorf("%q is left", f.unsettled)
		}
	})
}
