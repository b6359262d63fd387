package spool_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.uber.org/zap"

	"weir/internal/spool"
	"weir/internal/testdisk"
)

// original is a spool's directory before it is damaged, and what is to be known of it.
type original struct {
	config  spool.Config
	files   map[string][]byte
	stale   []byte               // an earlier cursor
	records map[spool.Seq][]byte // payloads of all records ever appended
	raw     map[spool.Seq][]byte // the bytes on disk of those that wait
	events  map[spool.Seq]int    // of those that wait
	names   []string             // of the segments
}

// newOriginal fills some segments and acknowledges some records in the midst, so that segments are missing there.
func newOriginal(t testing.TB, random *rand.Rand) *original {
	o := &original{
		config:  spool.Config{Dir: t.TempDir(), MaxBytes: 1 << 20, SegmentBytes: 4 << 10, Sync: spool.Never, Log: zap.NewNop()},
		records: map[spool.Seq][]byte{}, raw: map[spool.Seq][]byte{}, events: map[spool.Seq]int{},
	}
	disk := testdisk.New()
	s := open(t, o.config, disk)
	before := map[string][]byte{}
	for i := range 60 {
		payload := make([]byte, random.IntN(500))
		for j := range payload {
			payload[j] = byte(random.Uint32())
		}
		seq, _, err := s.Append(payload, i)
		if err != nil {
			t.Fatal(err)
		}
		o.records[seq], o.events[seq] = payload, i
		after := disk.Files()
		for name, data := range after {
			if old := before[name]; len(data) > len(old) && len(data) > 24 && name != "cursor" {
				o.raw[seq] = data[max(24, len(old)):]
			}
		}
		before = after
	}
	for seq := spool.Seq(1); seq <= 60; seq++ {
		if seq == 5 {
			s.Sync()
			o.stale = disk.Files()["cursor"]
		}
		if seq < 8 || seq > 20 && seq < 35 || random.IntN(8) == 0 {
			s.Ack(seq)
			delete(o.raw, seq)
			delete(o.events, seq)
		}
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	o.files = disk.Files()
	for name := range o.files {
		if strings.HasSuffix(name, ".seg") {
			o.names = append(o.names, name)
		}
	}
	slices.Sort(o.names)
	return o
}

func open(t testing.TB, config spool.Config, disk *testdisk.Disk) *spool.Spool {
	t.Helper()
	config.FS = disk
	s, err := spool.Open(config)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// certainty says how well it can be known afterwards what was lost.
type certainty uint8

const (
	exact   certainty = iota
	atLeast           // what was added looks like a record
	unknown           // of what is not there, the cursor would know whether it was delivered
)

// damages are what happens to files.
var damages = []struct {
	name  string
	count certainty
	do    func(o *original, files map[string][]byte, name string, r *rand.Rand)
}{
	{"bit flip", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		if data := files[name]; len(data) > 0 {
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		}
	}},
	{"garbage", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		if data := files[name]; len(data) > 0 {
			at := r.IntN(len(data))
			for i := range data[at:min(at+r.IntN(600), len(data))] {
				data[at+i] = byte(r.Uint32())
			}
		}
	}},
	{"torn tail", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		files[name] = files[name][:r.IntN(len(files[name])+1)]
	}},
	{"zero tail", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		clear(files[name][r.IntN(len(files[name])+1):])
	}},
	{"longer tail", atLeast, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		files[name] = append(files[name], make([]byte, r.IntN(5000))...)
	}},
	{"torn head", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		files[name] = files[name][r.IntN(len(files[name])+1):]
	}},
	{"missing segment", exact, func(_ *original, files map[string][]byte, name string, _ *rand.Rand) {
		delete(files, name)
	}},
	{"copied segment", exact, func(_ *original, files map[string][]byte, name string, r *rand.Rand) {
		files[fmt.Sprintf("%016x.seg", 1+r.IntN(100))] = bytes.Clone(files[name])
	}},
	{"foreign files", exact, func(_ *original, files map[string][]byte, _ string, _ *rand.Rand) {
		files["notes.seg"], files["0000000000000000.seg"], files["cursor.new"] = []byte("mine"), []byte("mine"), []byte("old")
	}},
	{"stale cursor", unknown, func(o *original, files map[string][]byte, _ string, _ *rand.Rand) {
		files["cursor"] = bytes.Clone(o.stale)
	}},
	{"no cursor", unknown, func(_ *original, files map[string][]byte, _ string, _ *rand.Rand) { delete(files, "cursor") }},
	{"damaged cursor", unknown, func(_ *original, files map[string][]byte, _ string, r *rand.Rand) {
		if data := files["cursor"]; len(data) > 0 {
			data[r.IntN(len(data))] ^= 1 << r.IntN(8)
		}
	}},
	{"future cursor", unknown, func(_ *original, files map[string][]byte, _ string, r *rand.Rand) {
		files["cursor"] = encodeCursor(spool.Seq(62 + r.Uint64N(1<<40)))
	}},
}

// TestF14Damage damages a spool in 10,000 ways. Every record whose bytes are whole must be read, and nothing else; those
// that are lost must be counted.
func TestF14Damage(t *testing.T) {
	for seed := range uint64(10) {
		random := rand.New(rand.NewPCG(seed, 14))
		o := newOriginal(t, random)
		for range 1000 {
			o.damage(t, random)
		}
	}
}

func (o *original) damage(t *testing.T, random *rand.Rand) {
	files := map[string][]byte{}
	for name, data := range o.files {
		files[name] = bytes.Clone(data)
	}
	var done []string
	count := exact
	for range 1 + random.IntN(3) {
		d, name := damages[random.IntN(len(damages))], o.names[random.IntN(len(o.names))]
		if _, there := files[name]; there || d.count == unknown {
			d.do(o, files, name, random)
			done = append(done, d.name+" "+name)
			count = max(count, d.count)
		}
	}
	disk := testdisk.New()
	for name, data := range files {
		disk.Put(name, data)
	}
	s := open(t, o.config, disk)
	got := drain(t, s)
	damaged := s.Stats().Damaged
	seq, _, err := s.Append([]byte("new"), 1)
	if _, known := got[seq]; err != nil || known {
		t.Fatalf("%v: append: record %d, %v", done, seq, err)
	}
	if err := s.Close(); err != nil {
		t.Fatalf("%v: %v", done, err)
	}
	if disk.OpenFiles() != 0 {
		t.Fatalf("%v: %d files stay open", done, disk.OpenFiles())
	}
	o.verify(t, done, count, files, got, damaged)
}

// verify compares what was read with what is whole.
func (o *original) verify(t *testing.T, done []string, count certainty, files map[string][]byte, got map[spool.Seq][]byte, damaged spool.Count) {
	var lost, events int64
	contents := slices.Collect(maps.Values(files))
	for seq, raw := range o.raw {
		whole := slices.ContainsFunc(contents, func(data []byte) bool { return bytes.Contains(data, raw) })
		if _, read := got[seq]; read != whole {
			t.Fatalf("%v: record %d was read: %t, is whole: %t", done, seq, read, whole)
		}
		if !whole {
			lost++
			events += int64(o.events[seq])
		}
	}
	for seq, payload := range got {
		if want, known := o.records[seq]; !known || !bytes.Equal(payload, want) {
			t.Fatalf("%v: record %d is not what was appended", done, seq)
		}
		if o.raw[seq] == nil {
			count = max(count, atLeast) // it was acknowledged, which is not believed; another such may be damaged
		}
	}
	right := damaged.Records == lost && damaged.Events <= events
	if count == atLeast {
		right = damaged.Records >= lost
	}
	if !right && count != unknown {
		t.Fatalf("%v: counted %+v, want %d records and at most %d events", done, damaged, lost, events)
	}
}

// drain reads and acknowledges everything, and fails if a record comes twice.
func drain(t *testing.T, s *spool.Spool) map[spool.Seq][]byte {
	got := map[spool.Seq][]byte{}
	for seq, ok := s.Next(0); ok; seq, ok = s.Next(seq) {
		record, err := s.Read(seq)
		if errors.Is(err, spool.ErrDamaged) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		got[seq] = record
		s.Ack(seq)
	}
	if left := s.Stats().Pending; left != (spool.Count{}) {
		t.Fatalf("%+v is left", left)
	}
	return got
}

// encodeCursor makes a cursor according to which everything below next is settled.
func encodeCursor(next spool.Seq) []byte {
	b := []byte("\xffweir\xfecu")
	for _, n := range []spool.Seq{next, 1, next - 1} {
		b = binary.LittleEndian.AppendUint64(b, uint64(n))
	}
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
}
