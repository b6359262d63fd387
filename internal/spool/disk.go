package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// FS is the directory of a spool. It is an interface for the sake of tests that let a disk fail.
type FS interface {
	Open(name string, flag int) (File, error) // flags as os.OpenFile's
	Remove(name string) error
	Rename(from, to string) error
	List() ([]fs.DirEntry, error)
	Sync() error // the directory itself: which files there are
	Close() error
}

// File is what a spool does with a file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// OpenDir opens a directory. Nothing that it is asked for leads out of it, not even by a symbolic link. Files that it
// makes have mode 0600.
func OpenDir(dir string) (FS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &directory{root}, nil
}

type directory struct{ root *os.Root }

func (d *directory) Open(name string, flag int) (File, error) {
	return d.root.OpenFile(name, flag, 0o600)
}
func (d *directory) Remove(name string) error     { return d.root.Remove(name) }
func (d *directory) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d *directory) List() ([]fs.DirEntry, error) { return fs.ReadDir(d.root.FS(), ".") }
func (d *directory) Close() error                 { return d.root.Close() }

func (d *directory) Sync() error {
	self, err := d.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(self.Sync(), self.Close())
}

// lock takes the directory for this process, until the file that it returns is closed or the process ends.
func lock(dir string) (io.Closer, error) {
	// Reading is enough for a lock, and works where the disk has become read-only.
	file, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDONLY|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		file.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, fmt.Errorf("lock it: %w", err)
	}
	return file, nil
}
