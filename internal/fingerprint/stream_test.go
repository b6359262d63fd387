package fingerprint

import (
	"bytes"
	"encoding/binary"
	"math"
	"testing"
)

type piece struct {
	offset uint64
	data   string
}

func TestStream(t *testing.T) {
	tests := []struct {
		name   string
		pieces []piece
		want   string
	}{
		{"in order", []piece{{0, "abc"}, {3, "def"}}, "abcdef"},
		{"reordered", []piece{{3, "def"}, {0, "abc"}}, "abcdef"},
		{"reordered three ways", []piece{{6, "ghi"}, {3, "def"}, {0, "abc"}}, "abcdefghi"},
		{"repeated", []piece{{0, "abc"}, {0, "abc"}, {3, "d"}}, "abcd"},
		{"overlapping", []piece{{0, "abc"}, {1, "bcdef"}}, "abcdef"},
		{"the first of two that differ counts", []piece{{0, "abc"}, {0, "ABCD"}}, "abcD"},
		{"the first early one counts", []piece{{2, "cd"}, {1, "BCDE"}, {0, "a"}}, "aBcdE"},
		{"a gap", []piece{{0, "abc"}, {4, "e"}}, "abc"},
		{"a gap that is closed twice over", []piece{{0, "a"}, {2, "c"}, {4, "e"}, {1, "BCDE"}}, "aBcDe"},
		{"nothing at the beginning", []piece{{1, "b"}}, ""},
		{"empty", []piece{{0, ""}, {5, ""}}, ""},
		{"cut at the limit", []piece{{0, "abcdefgh"}, {8, "ijklmnop"}}, "abcdefghij"},
		{"behind the limit", []piece{{0, "a"}, {10, "k"}, {math.MaxUint64, "z"}, {1, "b"}}, "ab"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			s := NewStream(10)
			for _, p := range test.pieces {
				s.Add(p.offset, []byte(p.data))
			}
			if got := string(s.Bytes()); got != test.want {
				t.Errorf("bytes %q, want %q", got, test.want)
			}
			if s.Full() != (len(test.want) == 10) {
				t.Errorf("full: %v with %q", s.Full(), test.want)
			}
		})
	}
}

func TestStreamIgnoresItsCallersBuffer(t *testing.T) {
	s := NewStream(10)
	data := []byte("abc")
	s.Add(0, data)
	copy(data, "xyz")
	if got := string(s.Bytes()); got != "abc" {
		t.Errorf("bytes %q after the caller wrote into its own", got)
	}
}

// naive is a stream as one would write it without a bound.
type naive map[uint64]byte

func (n naive) add(offset uint64, data []byte) {
	for i, b := range data {
		if _, ok := n[offset+uint64(i)]; !ok {
			n[offset+uint64(i)] = b
		}
	}
}

func (n naive) prefix(limit int) []byte {
	var out []byte
	for b, ok := n[0]; ok && len(out) < limit; b, ok = n[uint64(len(out))] {
		out = append(out, b)
	}
	return out
}

// FuzzStream compares with the naive stream. The input is pieces: 2 bytes of offset, one of length, data.
func FuzzStream(f *testing.F) {
	f.Add(uint16(100), []byte("\x00\x03\x03def\x00\x00\x03abc"))
	f.Add(uint16(4), []byte("\x00\x02\x02cd\x00\x01\x04BCDE\x00\x00\x01a\xff\xff\x01z"))
	f.Fuzz(func(t *testing.T, limit uint16, input []byte) {
		s, model := NewStream(int(limit)), naive{}
		for len(input) >= 3 {
			offset, n := uint64(binary.BigEndian.Uint16(input)), min(int(input[2]), len(input)-3)
			data := input[3:][:n]
			input = input[3+n:]
			s.Add(offset, data)
			model.add(offset, data)
			if want := model.prefix(int(limit)); !bytes.Equal(s.Bytes(), want) {
				t.Fatalf("bytes %q, want %q", s.Bytes(), want)
			}
			if held := cap(s.bytes) + 8*len(s.placed); held > int(limit)+int(limit)/8+8 {
				t.Fatalf("a stream of at most %d bytes holds %d", limit, held)
			}
		}
	})
}

// Pieces that each close the gap of another one make no more than one note of what came early.
func TestStreamOutOfOrderAllocatesOnce(t *testing.T) {
	n := testing.AllocsPerRun(10, func() {
		s := NewStream(1000)
		s.Add(999, []byte{1}) // room for all
		for at := uint64(0); at < 998; at += 2 {
			s.Add(at+1, []byte{1})
			s.Add(at, []byte{1})
		}
	})
	if n > 3 { // itself, the bytes, the note
		t.Errorf("%v allocations", n)
	}
}
