package datapath

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// numbersFolder has an empty folder for each network namespace that was watched: flows in the map carry its number. It is
// named after the number, the namespace's cookie, and what it is called, in base64: a BPF file system has no dots in names.
const numbersFolder = "netns"

// maxNameBytes is how much of a namespace's name is kept: encoded, with the rest, it fits into the name of a file.
const maxNameBytes = 160

// Namespace is a network namespace that a number stands for.
type Namespace struct {
	Cookie uint64 // SO_NETNS_COOKIE: no other namespace has it until the machine starts anew
	Name   string // what it is called; of a long name, its end
}

// Numbered returns the network namespaces that other processes gave numbers to, by number.
func (d *Datapath) Numbered() (map[uint8]Namespace, error) {
	if d.pins == nil {
		return nil, nil
	}
	entries, err := os.ReadDir(filepath.Join(d.pins.dir, numbersFolder))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the namespaces' numbers: %w", err)
	}
	all := map[uint8]Namespace{}
	for _, e := range entries {
		var number uint8
		var n Namespace
		var encoded string
		_, err := fmt.Sscanf(e.Name(), "%d-%d-%s", &number, &n.Cookie, &encoded)
		var name []byte
		if err == nil {
			name, err = base64.RawURLEncoding.DecodeString(encoded)
		}
		if err != nil {
			return nil, fmt.Errorf("read the namespace's number in %q: %w", e.Name(), err)
		}
		n.Name = string(name)
		all[number] = n
	}
	return all, nil
}

// Number remembers which network namespace a number is for now.
func (d *Datapath) Number(number uint8, n Namespace) error {
	if d.pins == nil {
		return nil
	}
	dir := filepath.Join(d.pins.dir, numbersFolder)
	stale, err := filepath.Glob(filepath.Join(dir, fmt.Sprintf("%d-*", number)))
	for _, path := range stale {
		err = errors.Join(err, os.Remove(path))
	}
	if err == nil {
		name := base64.RawURLEncoding.EncodeToString([]byte(n.Name[max(0, len(n.Name)-maxNameBytes):]))
		err = os.MkdirAll(filepath.Join(dir, fmt.Sprintf("%d-%d-%s", number, n.Cookie, name)), 0o700)
	}
	if err != nil {
		return fmt.Errorf("remember a namespace's number: %w", err)
	}
	return nil
}
