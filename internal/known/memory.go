package known

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

const (
	memorySetting = "AGENT_FINGERPRINT_MEMORY" // that has the path, for errors
	saveEvery     = time.Minute
	maxRemembered = 100_000
	maxRecent     = maxRemembered / 2
)

// Memory remembers which fingerprints were seen on this network, as hashes: 100,000 at most. When 50,000 others were seen
// since a fingerprint was, it may be forgotten, and will be new again.
//
// To a memory that begins everything is new. So nothing is as long as it learns, counted from when it, or its file, began.
//
// See, Len and Errors may be called by any goroutine, the others by one at a time: they wait for the disk.
type Memory struct {
	path  string
	learn time.Duration
	log   *zap.Logger

	mu           sync.Mutex
	born         time.Time
	recent, past map[uint64]struct{} // when recent is full, it becomes the past
	unsaved      bool

	errors atomic.Uint64
	saved  time.Time // when that was last tried
	failed bool      // the last time
}

// NewMemory returns the memory of a file, which Load reads. Without a path it lasts as long as the process.
func NewMemory(path string, learn time.Duration, log *zap.Logger) *Memory {
	return &Memory{
		path: path, learn: learn, log: log,
		recent: map[uint64]struct{}{}, past: map[uint64]struct{}{},
	}
}

// See remembers a fingerprint of a method, and says whether it is new: it was not remembered, and the memory is not
// learning any more.
func (m *Memory) See(method, value string, now time.Time) (isNew bool) {
	hash := hashOf(method, value)
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, found := m.recent[hash]; found {
		return false
	}
	_, found := m.past[hash]
	m.remember(hash)
	m.unsaved = true
	return !found && now.Sub(m.born) >= m.learn
}

func (m *Memory) remember(hash uint64) {
	if len(m.recent) == maxRecent {
		m.past, m.recent = m.recent, make(map[uint64]struct{}, maxRecent)
	}
	m.recent[hash] = struct{}{}
}

// hashOf is FNV-1a of "method:value", as hash/fnv has it but without an object: the same on every machine.
func hashOf(method, value string) uint64 {
	const basis, prime = 0xcbf29ce484222325, 0x100000001b3
	hash := uint64(basis)
	for _, s := range [...]string{method, ":", value} {
		for i := range len(s) {
			hash = (hash ^ uint64(s[i])) * prime
		}
	}
	return hash
}

// Len returns how many fingerprints are remembered. Those that were seen again since they became the past count twice.
func (m *Memory) Len() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.recent) + len(m.past)
}

// Errors returns how many times the file was found damaged or could not be written.
func (m *Memory) Errors() uint64 { return m.errors.Load() }

// Load reads the file before anything is seen. One that is damaged is told and counted, and the memory begins anew; one that
// cannot be read at all, or is not a memory's, is an error.
func (m *Memory) Load(now time.Time) error {
	m.born = now
	if m.path == "" {
		return nil
	}
	if err := m.load(now); err != nil {
		return fmt.Errorf("read %s: %w", memorySetting, err)
	}
	return nil
}

func (m *Memory) load(now time.Time) error {
	info, err := os.Stat(m.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	content, err := readBounded(m.path, info)
	if err != nil {
		return err
	}
	born, hashes, err := parseMemory(content)
	if errors.Is(err, errForeign) {
		return fmt.Errorf("%s: %w", m.path, err)
	} else if err != nil {
		m.errors.Add(1)
		m.log.Error("the memory of fingerprints begins anew", zap.String("file", m.path), zap.Error(err))
		return nil
	}
	if born.Before(now) {
		m.born = born
	}
	for _, hash := range hashes {
		m.remember(hash)
	}
	return nil
}

// Open writes the file after Load, and fails at once if that cannot be done.
func (m *Memory) Open() error {
	m.unsaved = true
	return m.save()
}

// Save writes the file if there is something new, once a minute at most. If that fails, it is told once, counted, and tried
// again a minute later.
func (m *Memory) Save(now time.Time) {
	if now.Sub(m.saved) < saveEvery {
		return
	}
	m.saved = now
	err := m.save()
	if err != nil {
		m.errors.Add(1)
		if !m.failed {
			m.log.Error("the memory of fingerprints is not saved", zap.Error(err))
		}
	}
	m.failed = err != nil
}

// Close writes the file if there is something new.
func (m *Memory) Close() error { return m.save() }

func (m *Memory) save() error {
	m.mu.Lock()
	if m.path == "" || !m.unsaved {
		m.mu.Unlock()
		return nil
	}
	m.unsaved = false
	content := formatMemory(m.born, m.hashes())
	m.mu.Unlock()

	if err := replaceFile(m.path, content); err != nil {
		m.mu.Lock()
		m.unsaved = true
		m.mu.Unlock()
		return fmt.Errorf("write %s: %w", memorySetting, err)
	}
	return nil
}

// hashes returns the past ones first.
func (m *Memory) hashes() []uint64 {
	all := make([]uint64, 0, len(m.past)+len(m.recent))
	for hash := range m.past {
		if _, again := m.recent[hash]; !again {
			all = append(all, hash)
		}
	}
	for hash := range m.recent {
		all = append(all, hash)
	}
	return all
}
