// Package testdisk is a directory in memory that fails or hangs when told to, and that remembers what would outlive a failure of
// the machine. For tests of what uses a spool.
package testdisk

import (
	"bytes"
	"cmp"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"sync"
	"time"

	"weir/internal/spool"
)

// Op is what can fail.
type Op uint8

// The values of Op.
const (
	Create Op = iota // opening a file that is to be made
	Open             // opening one that is there
	Read
	Write   // after half of it was written
	Cut     // truncating
	Sync    // of a file
	SyncDir // of the directory
	Remove
	Rename
)

// Disk is the directory. It implements spool.FS.
type Disk struct {
	mu      sync.Mutex
	files   map[string]*content
	durable map[string]*content // what files was when the directory was last synced
	faults  map[fault]error
	hung    map[Op]chan struct{} // closed when the operation may go on
	open    int
}

// fault is an operation that fails, on one file or, with an empty name, on all.
type fault struct {
	name string
	op   Op
}

type content struct {
	data, durable []byte
}

// New returns an empty directory.
func New() *Disk {
	return &Disk{
		files: map[string]*content{}, durable: map[string]*content{}, faults: map[fault]error{}, hung: map[Op]chan struct{}{},
	}
}

// Fail lets operations fail from now on.
func (d *Disk) Fail(err error, ops ...Op) { d.FailFile("", err, ops...) }

// FailFile lets operations on one file fail from now on.
func (d *Disk) FailFile(name string, err error, ops ...Op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range ops {
		d.faults[fault{name, op}] = err
	}
}

// fault returns the error of an operation on a file, or nil.
func (d *Disk) fault(name string, op Op) error {
	return cmp.Or(d.faults[fault{name, op}], d.faults[fault{"", op}])
}

// Hang lets operations hang from now on, until Heal.
func (d *Disk) Hang(ops ...Op) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, op := range ops {
		if d.hung[op] == nil {
			d.hung[op] = make(chan struct{})
		}
	}
}

// await returns when an operation does not hang.
func (d *Disk) await(op Op) {
	d.mu.Lock()
	hung := d.hung[op]
	d.mu.Unlock()
	if hung != nil {
		<-hung
	}
}

// Heal lets all operations succeed again, and those that hang go on.
func (d *Disk) Heal() {
	d.mu.Lock()
	defer d.mu.Unlock()
	clear(d.faults)
	for _, hung := range d.hung {
		close(hung)
	}
	clear(d.hung)
}

// AfterKill returns the directory as it is when the process has been killed.
func (d *Disk) AfterKill() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := New()
	for name, c := range d.files {
		after.put(name, c.data)
	}
	return after
}

// AfterPowerLoss returns the directory with only what was synced.
func (d *Disk) AfterPowerLoss() *Disk {
	d.mu.Lock()
	defer d.mu.Unlock()
	after := New()
	for name, c := range d.durable {
		after.put(name, c.durable)
	}
	return after
}

// Files returns a copy of all files.
func (d *Disk) Files() map[string][]byte {
	d.mu.Lock()
	defer d.mu.Unlock()
	files := map[string][]byte{}
	for name, c := range d.files {
		files[name] = bytes.Clone(c.data)
	}
	return files
}

// Put makes a file, or replaces it.
func (d *Disk) Put(name string, data []byte) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.put(name, data)
}

func (d *Disk) put(name string, data []byte) {
	c := &content{data: bytes.Clone(data), durable: bytes.Clone(data)}
	d.files[name], d.durable[name] = c, c
}

// OpenFiles returns how many files are open.
func (d *Disk) OpenFiles() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.open
}

// Open implements spool.FS.
func (d *Disk) Open(name string, flag int) (spool.File, error) {
	if flag&os.O_CREATE != 0 {
		d.await(Create)
	} else {
		d.await(Open)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	c, exists := d.files[name]
	switch {
	case exists && flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case !exists && flag&os.O_CREATE == 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	case !exists:
		if err := d.fault(name, Create); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		c = &content{}
		d.files[name] = c
	default:
		if err := d.fault(name, Open); err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
	}
	d.open++
	return &file{disk: d, name: name, content: c}, nil
}

// Remove implements spool.FS.
func (d *Disk) Remove(name string) error {
	d.await(Remove)
	d.mu.Lock()
	defer d.mu.Unlock()
	if _, exists := d.files[name]; !exists {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	if err := d.fault(name, Remove); err != nil {
		return &fs.PathError{Op: "remove", Path: name, Err: err}
	}
	delete(d.files, name)
	return nil
}

// Rename implements spool.FS.
func (d *Disk) Rename(from, to string) error {
	d.await(Rename)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault(from, Rename); err != nil {
		return &os.LinkError{Op: "rename", Old: from, New: to, Err: err}
	}
	d.files[to] = d.files[from]
	delete(d.files, from)
	return nil
}

// List implements spool.FS.
func (d *Disk) List() ([]fs.DirEntry, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	var entries []fs.DirEntry
	for _, name := range slices.Sorted(maps.Keys(d.files)) {
		entries = append(entries, fs.FileInfoToDirEntry(info{name: name, size: int64(len(d.files[name].data))}))
	}
	return entries, nil
}

// Sync implements spool.FS.
func (d *Disk) Sync() error {
	d.await(SyncDir)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fault("", SyncDir); err != nil {
		return err
	}
	d.durable = maps.Clone(d.files)
	return nil
}

// Close implements spool.FS.
func (d *Disk) Close() error { return nil }

// file is an open file.
type file struct {
	disk    *Disk
	name    string
	content *content
	closed  bool
}

// use calls do with the file locked, unless it is closed or op fails.
func (f *file) use(op Op, do func(c *content)) error {
	f.disk.mu.Lock()
	closed := f.closed
	f.disk.mu.Unlock()
	if closed {
		return &fs.PathError{Op: "use", Path: f.name, Err: os.ErrClosed}
	}
	f.disk.await(op) // that the file is closed meanwhile does not end it
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if err := f.disk.fault(f.name, op); err != nil {
		return &fs.PathError{Op: "use", Path: f.name, Err: err}
	}
	do(f.content)
	return nil
}

// ReadAt implements spool.File.
func (f *file) ReadAt(p []byte, offset int64) (n int, err error) {
	err = f.use(Read, func(c *content) { n = copy(p, c.data[min(offset, int64(len(c.data))):]) })
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, err
}

// WriteAt implements spool.File.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
	err := f.use(Write, func(c *content) { c.write(p, offset) })
	if err == nil {
		return len(p), nil
	}
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	half := p[:len(p)/2]
	f.content.write(half, offset)
	return len(half), err
}

func (c *content) write(p []byte, offset int64) {
	if grow := offset + int64(len(p)) - int64(len(c.data)); grow > 0 {
		c.data = append(c.data, make([]byte, grow)...)
	}
	copy(c.data[offset:], p)
}

// Truncate implements spool.File.
func (f *file) Truncate(size int64) error {
	return f.use(Cut, func(c *content) { c.data = c.data[:size] })
}

// Sync implements spool.File.
func (f *file) Sync() error {
	return f.use(Sync, func(c *content) { c.durable = bytes.Clone(c.data) })
}

// Close implements spool.File.
func (f *file) Close() error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.closed {
		return os.ErrClosed
	}
	f.closed = true
	f.disk.open--
	return nil
}

type info struct {
	name string
	size int64
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o600 }
func (i info) ModTime() time.Time { return time.Time{} }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }
