package known

import (
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// recheckEvery is how often it is looked whether a file has changed.
const recheckEvery = time.Second

// List is a file of fingerprints, in memory. Lookup and Errors may be called by any goroutine, the others by one at a
// time: reading a large file takes seconds, so that should not be the one that looks fingerprints up.
type List struct {
	setting string // that has the path, for errors
	path    string
	parse   func(content []byte) (*table, error)
	log     *zap.Logger

	table   atomic.Pointer[table]
	errors  atomic.Uint64
	read    os.FileInfo // of the file when it was last read, whether it was valid or not
	invalid error       // what was wrong with it then
	checked time.Time
	told    string // the error that Refresh met last, "" if it met none the last time
}

// NewDatabase returns the database of a file, which Load reads: CSV as FoxIO's ja4plus-mapping.csv or JSON as ja4db.com's, told
// apart by how it begins. Its texts are the names of programs or, where those are missing, of libraries, devices or
// operating systems. Without a path it stays empty.
func NewDatabase(path string, log *zap.Logger) *List {
	return newList("AGENT_FINGERPRINT_DB", path, parseDatabase, log)
}

// NewBadList returns the list of bad fingerprints of a file, which Load reads. Its texts are reasons.
// Without a path it stays empty.
func NewBadList(path string, log *zap.Logger) *List {
	return newList("AGENT_BAD_FINGERPRINTS", path, parseBad, log)
}

func newList(setting, path string, parse func([]byte) (*table, error), log *zap.Logger) *List {
	l := &List{setting: setting, path: path, parse: parse, log: log}
	l.table.Store(newTable())
	return l
}

// Lookup returns what the list says of a fingerprint of a method ("ja4", "ja4s", …), and "" if it is not on it. Some texts
// are of a JA4 together with the JA4S that the server answered with, which go before those of the JA4 alone: ja4s is that
// answer, or "" if it is not known or the method is another. Several texts of a fingerprint have " or " between them.
// Lookup does not allocate.
func (l *List) Lookup(method, value, ja4s string) string {
	return l.table.Load().lookup(method, value, ja4s)
}

// Len returns how many fingerprints are on the list. It may be called by any goroutine.
func (l *List) Len() int { return len(l.table.Load().texts) }

// Errors returns how many times the file was found to be not readable or not valid; as long as it stays so, that is once.
func (l *List) Errors() uint64 { return l.errors.Load() }

// Load reads the file for the first time.
func (l *List) Load() error {
	if l.path == "" {
		return nil
	}
	return l.refresh()
}

// Refresh reads the file again if it has changed, and looks for that every second at most. If it cannot be read or any of
// it is not valid, what was read before stays. The log says so once, and when it is over.
func (l *List) Refresh(now time.Time) {
	if l.path == "" || now.Sub(l.checked) < recheckEvery {
		return
	}
	l.checked = now
	err := l.refresh()
	switch {
	case err == nil && l.told != "":
		l.told = ""
		l.log.Info("fingerprints read again", zap.String("setting", l.setting), zap.Int("fingerprints", l.Len()))
	case err != nil && err.Error() != l.told:
		l.told = err.Error()
		l.errors.Add(1)
		l.log.Error("fingerprints cannot be read again, using the old ones", zap.Error(err))
	}
}

func (l *List) refresh() error {
	if err := l.readChanged(); err != nil {
		return fmt.Errorf("read %s: %w", l.setting, err)
	}
	return nil
}

func (l *List) readChanged() error {
	info, err := os.Stat(l.path)
	if err != nil {
		return err
	}
	if l.read != nil && sameContent(info, l.read) {
		return l.invalid
	}
	content, err := readBounded(l.path, info)
	if err != nil {
		return err
	}
	l.read, l.invalid = info, nil // a file that is not valid is not parsed again before it changes
	t, err := l.parse(content)
	if err != nil {
		l.invalid = fmt.Errorf("%s: %w", l.path, err)
		return l.invalid
	}
	t.built()
	l.table.Store(t)
	return nil
}

func sameContent(a, b os.FileInfo) bool {
	return os.SameFile(a, b) && a.ModTime().Equal(b.ModTime()) && a.Size() == b.Size()
}

func readBounded(path string, info os.FileInfo) ([]byte, error) {
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s: it is not a regular file", path)
	}
	tooLarge := fmt.Errorf("%s: it has more than %d bytes", path, maxFileBytes)
	if info.Size() > maxFileBytes {
		return nil, tooLarge
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	content, err := io.ReadAll(io.LimitReader(file, maxFileBytes+1))
	if err != nil {
		return nil, err
	}
	if len(content) > maxFileBytes { // it grew
		return nil, tooLarge
	}
	return content, nil
}
