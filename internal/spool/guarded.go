package spool

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"weir/internal/stall"
)

// guarded is a directory that fails with stall.ErrStalled when its disk hangs. What failed so may be done late: while it
// may, everything else fails too, so nothing comes out of order.
type guarded struct {
	fs    FS
	guard *stall.Guard
}

// Open closes a file that is opened too late.
func (d *guarded) Open(name string, flag int) (File, error) {
	var file File
	var decided atomic.Bool // the second of the two to come here knows what the first made of it
	err := d.guard.Do(func() (err error) {
		file, err = d.fs.Open(name, flag)
		if late := decided.Swap(true); late && err == nil {
			file.Close()
		}
		return err
	})
	if errors.Is(err, stall.ErrStalled) {
		if opened := decided.Swap(true); opened && file != nil {
			_ = d.guard.Close(file)
		}
		return nil, err
	}
	if err != nil {
		return nil, err
	}
	return &guardedFile{file, d.guard}, nil
}

func (d *guarded) Remove(name string) error {
	return d.guard.Do(func() error { return d.fs.Remove(name) })
}

func (d *guarded) Rename(from, to string) error {
	return d.guard.Do(func() error { return d.fs.Rename(from, to) })
}

func (d *guarded) List() ([]fs.DirEntry, error) { return value(d.guard, d.fs.List) }
func (d *guarded) Sync() error                  { return d.guard.Do(d.fs.Sync) }
func (d *guarded) Close() error                 { return d.guard.Close(d.fs) }

type guardedFile struct {
	file  File
	guard *stall.Guard
}

// ReadAt may write to p after it has failed.
func (f *guardedFile) ReadAt(p []byte, offset int64) (int, error) {
	return value(f.guard, func() (int, error) { return f.file.ReadAt(p, offset) })
}

// WriteAt may read from p after it has failed.
func (f *guardedFile) WriteAt(p []byte, offset int64) (int, error) {
	return value(f.guard, func() (int, error) { return f.file.WriteAt(p, offset) })
}

func (f *guardedFile) Truncate(size int64) error {
	return f.guard.Do(func() error { return f.file.Truncate(size) })
}

func (f *guardedFile) Sync() error  { return f.guard.Do(f.file.Sync) }
func (f *guardedFile) Close() error { return f.guard.Close(f.file) }

// value is Do for an act with a result, which is not looked at if it comes late.
func value[T any](guard *stall.Guard, act func() (T, error)) (T, error) {
	var v, none T
	err := guard.Do(func() (err error) {
		v, err = act()
		return err
	})
	if errors.Is(err, stall.ErrStalled) {
		return none, err
	}
	return v, err
}
