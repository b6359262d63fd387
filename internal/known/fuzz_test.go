package known

import (
	"runtime"
	"slices"
	"testing"
)

// Bounds of what reading allocates: a row of a few bytes costs its key, its place in a map that grows, and what the decoder
// makes of it.
const (
	fixedAlloc   = 1 << 20
	allocPerByte = 600
)

// checkParser holds a parser to its bounds, and a table to what Lookup relies on.
func checkParser(t *testing.T, parse func([]byte) (*table, error), content []byte) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	table, err := parse(content)
	runtime.ReadMemStats(&after)
	if took := after.TotalAlloc - before.TotalAlloc; took > fixedAlloc+allocPerByte*uint64(len(content)) {
		t.Errorf("%d bytes allocated for a file of %d", took, len(content))
	}
	if err != nil {
		return
	}
	for p, text := range table.texts {
		if p.value == "" || text == "" || len(text) > maxJoined {
			t.Errorf("%q is found by %q", text, p)
		}
		if got := table.lookup(p.method, p.value, p.ja4s); got != text {
			t.Errorf("%q finds %q, want %q", p, got, text)
		}
		isPrefix := slices.Contains(table.prefixes[p.method], len(p.value))
		if isPrefix && table.lookup(p.method, p.value+"_more", p.ja4s) == "" {
			t.Errorf("nothing begins with %q", p)
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add([]byte(csvDatabase))
	f.Add([]byte("os,ja4\na,b*\na,b_c\na,b_c_d\n"))
	f.Add([]byte("\xef\xbb\xbfOS , JA4\n\"a\"\"b\",c\n"))
	f.Fuzz(func(t *testing.T, content []byte) { checkParser(t, parseCSV, content) })
}

func FuzzJSON(f *testing.F) {
	f.Add([]byte(jsonDatabase))
	f.Add([]byte(`{"os":"a","ja4_fingerprint":"b*"}{"os":"c","ja4_fingerprint":"b_c"}`))
	f.Add([]byte(`[[[[`))
	f.Add([]byte(`[{}, {"os":"\ud800","ja4_fingerprint":"a"}, null, 1]`))
	f.Fuzz(func(t *testing.T, content []byte) { checkParser(t, parseDatabase, content) })
}

func FuzzBadList(f *testing.F) {
	f.Add([]byte("# comment\n\nja4 a_b_c reason\nja4+ja4s a_b_c+d reason\nja4h a* reason\n"))
	f.Fuzz(func(t *testing.T, content []byte) { checkParser(t, parseBad, content) })
}

func FuzzMemory(f *testing.F) {
	f.Add(formatMemory(start, nil))
	f.Add(formatMemory(start, []uint64{1, 2, 3}))
	f.Fuzz(func(t *testing.T, content []byte) {
		born, hashes, err := parseMemory(content)
		if err == nil && !slices.Equal(formatMemory(born, hashes), content) {
			t.Errorf("%x is read as %v, %x", content, born, hashes)
		}
	})
}
