package datapath

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// numbersFolder has an empty folder for each network namespace that was watched, named after its number and its inode: flows
// in the map carry the number.
const numbersFolder = "netns"

// Numbered returns the numbers that other processes gave to network namespaces, by inode.
func (d *Datapath) Numbered() (map[uint64]uint8, error) {
	if d.pins == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(d.pins.dir, numbersFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the namespaces' numbers: %w", err)
	}
	all := map[uint64]uint8{}
	for _, e := range entries {
		var number uint8
		var inode uint64
		if _, err := fmt.Sscanf(e.Name(), "%d-%d", &number, &inode); err != nil {
			return nil, fmt.Errorf("read the namespace's number in %q: %w", e.Name(), err)
		}
		all[inode] = number
	}
	return all, nil
}

// Number remembers which network namespace a number is for now.
func (d *Datapath) Number(inode uint64, number uint8) error {
	if d.pins == nil {
		return nil
	}
	dir := filepath.Join(d.pins.dir, numbersFolder)
	stale, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-*", number)))
	for _, path := range stale {
		err = errors.Join(err, os.Remove(path))
	}
	if err == nil {
		err = os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%d-%d", number, inode)), 0o700)
	}
	if err != nil {
		return fmt.Errorf("remember a namespace's number: %w", err)
	}
	return nil
}
