package known

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
)

func newMemory(t *testing.T, path string, learn time.Duration, now time.Time) *Memory {
	t.Helper()
	m := NewMemory(path, learn, zap.NewNop())
	if err := m.Load(now); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestSee(t *testing.T) {
	m := newMemory(t, "", 0, start)
	for i, tc := range []struct {
		method, value string
		want          bool
	}{
		{"ja4", "a", true},
		{"ja4", "a", false},
		{"ja4", "b", true},
		{"ja4s", "a", true},
		{"ja4", "a", false},
		{"ja4s", "a", false},
	} {
		if got := m.See(tc.method, tc.value, start); got != tc.want {
			t.Errorf("step %d: See(%s, %s) = %t, want %t", i, tc.method, tc.value, got, tc.want)
		}
	}
	if err := m.Close(); err != nil {
		t.Errorf("Close without a file: %v", err)
	}
}

func TestNothingIsNewWhileItLearns(t *testing.T) {
	const day = 24 * time.Hour
	path := filepath.Join(t.TempDir(), "memory")
	m := newMemory(t, path, day, start)
	if m.See("ja4", "a", start) || m.See("ja4", "b", start.Add(day-1)) {
		t.Error("something is new on the first day")
	}
	if m.See("ja4", "a", start.Add(day)) || !m.See("ja4", "c", start.Add(day)) {
		t.Error("on the second day what was seen is new, or what was not is not")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	next := newMemory(t, path, day, start.Add(day)) // learned before
	if next.See("ja4", "b", start.Add(day)) || !next.See("ja4", "d", start.Add(day)) {
		t.Error("after a restart what was seen is new, or what was not is not")
	}
	back := newMemory(t, path, day, start.AddDate(-1, 0, 0)) // the clock was wrong before
	if back.See("ja4", "e", start.AddDate(-1, 0, 0)) || !back.See("ja4", "f", start.AddDate(-1, 0, 1)) {
		t.Error("a memory from the future does not learn for one day")
	}
}

func TestMemoryForgetsWhatWasNotSeenForLongest(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	m := newMemory(t, path, 0, start)
	const total = 3 * maxRemembered
	for i := range total {
		if !m.See("ja4", fmt.Sprint(i), start) {
			t.Fatalf("%d is known", i)
		}
		if i%1000 == 0 && m.See("ja4", "0", start) {
			t.Fatalf("what is seen all the time is new at %d", i)
		}
	}
	if len(m.recent)+len(m.past) > maxRemembered {
		t.Errorf("%d and %d are remembered, want %d at most", len(m.recent), len(m.past), maxRemembered)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for _, m := range []*Memory{m, newMemory(t, path, 0, start)} {
		for _, value := range []int{0, total - 1, total - maxRecent} {
			if m.See("ja4", fmt.Sprint(value), start) {
				t.Errorf("%d, which was seen lately, is new", value)
			}
		}
		if !m.See("ja4", "1", start) {
			t.Error("what was seen long ago is known")
		}
	}
}

func TestSaveOnceAMinute(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	m := newMemory(t, path, 0, start)
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			return 0
		}
		return info.Size()
	}
	for i, step := range []struct {
		see   string
		after time.Duration
		want  int64
	}{
		{"", 0, 0}, // nothing to save
		{"a", saveEvery, memoryFixedSize + 8},
		{"b", 2*saveEvery - 1, memoryFixedSize + 8},
		{"c", 2 * saveEvery, memoryFixedSize + 24},
		{"c", 3 * saveEvery, memoryFixedSize + 24},
	} {
		if step.see != "" {
			m.See("ja4", step.see, start)
		}
		if m.Save(start.Add(step.after)); size() != step.want {
			t.Errorf("step %d: the file has %d bytes, want %d", i, size(), step.want)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil || size() != 0 {
		t.Errorf("Close wrote %d bytes, %v, though nothing was new", size(), err)
	}
}

func TestDamagedMemoryBeginsAnew(t *testing.T) {
	whole := formatMemory(start, []uint64{1, 2, 3, hashOf("ja4", "a")})
	damaged := map[string][]byte{
		"empty":    {},
		"too long": formatMemory(start, make([]uint64, maxRemembered+1)),
		"appended": append(slices.Clone(whole), make([]byte, 8)...),
	}
	for i := len(memoryMagic); i < len(whole); i++ {
		damaged[fmt.Sprintf("torn at %d", i)] = whole[:i]
		damaged[fmt.Sprintf("bit of %d", i)] = slices.Concat(whole[:i], []byte{whole[i] ^ 0x10}, whole[i+1:])
	}
	path := filepath.Join(t.TempDir(), "memory")
	for name, content := range damaged {
		write(t, path, string(content))
		log, logs := newLog()
		m := NewMemory(path, time.Hour, log)
		if err := m.Load(start.Add(time.Hour)); err != nil || m.Errors() != 1 || logs.Len() != 1 {
			t.Errorf("%s: %v, %d errors, %d told, want one", name, err, m.Errors(), logs.Len())
		}
		if m.See("ja4", "b", start.Add(time.Hour)) || !m.See("ja4", "a", start.Add(2*time.Hour)) {
			t.Errorf("%s: it does not learn anew, or knows something", name)
		}
	}
	write(t, path, string(whole))
	if m := newMemory(t, path, 0, start); m.Errors() != 0 || m.See("ja4", "a", start) {
		t.Errorf("the whole file has %d errors, or is not known", m.Errors())
	}
}

// TestForeignFileStays, whatever setting was given the wrong path.
func TestForeignFileStays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "foreign")
	whole := string(formatMemory(start, []uint64{hashOf("ja4", "a")}))
	for name, content := range map[string]string{
		"text":          strings.Repeat("x", len(whole)),
		"one byte":      "x",
		"zeros":         strings.Repeat("\x00", len(whole)),
		"another magic": "x" + whole[1:],
		"half a magic":  whole[:len(memoryMagic)-1],
	} {
		write(t, path, content)
		m := NewMemory(path, 0, zap.NewNop())
		if err := m.Load(start); !errors.Is(err, errForeign) || !strings.HasPrefix(err.Error(), "read AGENT_FINGERPRINT_MEMORY: "+path) {
			t.Errorf("%s: Load: %v, want that %s is no memory", name, err, path)
		}
		if after, err := os.ReadFile(path); err != nil || string(after) != content {
			t.Errorf("%s: the file has %q now (%v), want %q", name, after, err, content)
		}
	}
}

// TestHalfWrittenMemory leaves what a crash leaves that comes while the file is replaced.
func TestHalfWrittenMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	write(t, path, string(formatMemory(start, []uint64{hashOf("ja4", "a")})))
	write(t, path+".new", memoryMagic+strings.Repeat("x", 1000))
	m := newMemory(t, path, 0, start)
	if m.See("ja4", "a", start) || !m.See("ja4", "b", start) || m.Errors() != 0 {
		t.Errorf("the old file is not believed: %d errors", m.Errors())
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if next := newMemory(t, path, 0, start); next.See("ja4", "b", start) || next.Errors() != 0 {
		t.Errorf("the new file is not believed: %d errors", next.Errors())
	}
}

// TestOpenedMemory is on disk at once, with when it began and what it knew.
func TestOpenedMemory(t *testing.T) {
	path := filepath.Join(t.TempDir(), "memory")
	for i := range 2 {
		m := newMemory(t, path, 0, start.AddDate(0, 0, i))
		if err := m.Open(); err != nil {
			t.Fatal(err)
		}
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		born, hashes, err := parseMemory(content)
		if err != nil || !born.Equal(start) || len(hashes) != i {
			t.Errorf("start %d: born %s with %d hashes (%v), want %s and %d", i, born, len(hashes), err, start, i)
		}
		m.See("ja4", "a", start)
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestMemoryThatCannotBeSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "dir")
	log, logs := newLog()
	m := NewMemory(filepath.Join(dir, "memory"), 0, log)
	if err := m.Load(start); err != nil {
		t.Fatal(err)
	}
	if err := m.Open(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), dir) {
		t.Errorf("Open: %v, want that there is no %s", err, dir)
	}
	m.See("ja4", "a", start)
	for i := range 3 {
		m.Save(start.Add(time.Duration(i) * saveEvery))
	}
	if m.Errors() != 3 || logs.Len() != 1 {
		t.Errorf("%d errors, %d told, want 3, 1", m.Errors(), logs.Len())
	}
	if err := m.Close(); err == nil || !strings.HasPrefix(err.Error(), "write AGENT_FINGERPRINT_MEMORY: open "+dir) {
		t.Errorf("Close: %v, want that it cannot be saved", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if m := newMemory(t, m.path, 0, start); m.See("ja4", "a", start) {
		t.Error("what was seen while the disk failed is lost")
	}
	if err := NewMemory(dir, 0, log).Load(start); err == nil || !strings.Contains(err.Error(), "not a regular file") {
		t.Errorf("Load of a directory: %v", err)
	}
}

func TestHashIsFNV(t *testing.T) {
	reference := fnv.New64a()
	reference.Write([]byte("ja4:" + chromeHello))
	if got := hashOf("ja4", chromeHello); got != reference.Sum64() {
		t.Errorf("hashOf = %x, want %x", got, reference.Sum64())
	}
}

func BenchmarkSee(b *testing.B) {
	m := NewMemory("", 0, zap.NewNop())
	b.ReportAllocs()
	for b.Loop() {
		m.See("ja4", chromeHello, start)
	}
}
