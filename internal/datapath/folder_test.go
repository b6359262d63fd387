package datapath

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/cilium/ebpf"

	"weir/internal/testnet"
)

// pinForeign pins a map of somebody else's.
func pinForeign(t *testing.T, path string) {
	t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := m.Pin(path); err != nil {
		t.Fatal(err)
	}
}

// tree lists what is in a folder, at any depth.
func tree(t *testing.T, dir string) (list []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		list = append(list, path)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// TestForeignFolder: weir neither runs on a folder that is not its own, nor removes anything from it.
func TestForeignFolder(t *testing.T) {
	root := testnet.BPFFS(t)
	for _, path := range []string{"top", "full/map", "alike/" + linksFolder + "/map", "old/" + unfinished + "/map"} {
		pinForeign(t, filepath.Join(root, path))
	}
	before := tree(t, root)
	for _, dir := range []string{"", "full", "alike", "old"} {
		dir = filepath.Join(root, dir)
		if d, err := Load(Config{MaxFlows: 1024, Sampling: 1, PinDir: dir}); err == nil {
			t.Errorf("%s: loaded %v, want an error", dir, d)
		}
		if err := Unpin(dir); err == nil {
			t.Errorf("%s: unpinned, want an error", dir)
		}
		if after := tree(t, root); !slices.Equal(after, before) {
			t.Fatalf("%s: %q is left of %q", dir, after, before)
		}
	}
}

// TestForeignPins in weir's folder stay when all that is weir's goes.
func TestForeignPins(t *testing.T) {
	cfg := Config{MaxFlows: 1024, Sampling: 1, PinDir: filepath.Join(testnet.BPFFS(t), "weir")}
	foreign := []string{
		filepath.Join(cfg.PinDir, linksFolder, "1-ingress"), filepath.Join(cfg.PinDir, generationPrefix+"theirs", "map"),
	}
	d, err := Load(cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range foreign {
		pinForeign(t, path)
	}
	if err := d.Number(1, Namespace{Cookie: 1234, Name: "blue"}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Settle(); err != nil {
		t.Error(err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if err := Unpin(cfg.PinDir); err == nil {
		t.Error("unpinned a folder with something foreign in it, want an error")
	}
	want := []string{
		cfg.PinDir, filepath.Dir(foreign[0]), foreign[0], filepath.Dir(foreign[1]), foreign[1], filepath.Join(cfg.PinDir, signature),
	}
	if got := tree(t, cfg.PinDir); !slices.Equal(got, want) {
		t.Errorf("%q is left, want %q", got, want)
	}
}
