package netns

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"weir/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestName(t *testing.T) {
	for path, want := range map[string]string{
		"/run/netns/blue":          "blue",
		"/var/run/netns/blue":      "blue",
		"/run/docker/netns/1a2b3c": "/run/docker/netns/1a2b3c",
		"/proc/1234/ns/net":        "/proc/1234/ns/net",
	} {
		if got := (Found{Path: path}).Name(); got != want {
			t.Errorf("%s is called %q, want %q", path, got, want)
		}
	}
}

// TestFind: a path must lead to a namespace, of a glob only those count that do.
func TestFind(t *testing.T) {
	dir := t.TempDir()
	blue, green := testnet.NewNamespace(t), testnet.NewNamespace(t)
	blue.Bind(t, filepath.Join(dir, "blue"))
	blue.Bind(t, filepath.Join(dir, "again"))
	green.Bind(t, filepath.Join(dir, "green"))
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("nowhere", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]struct {
		names, failure string
	}{
		"*":        {"again blue green", ""},
		"[bg]*":    {"blue green", ""},
		"none*":    {"", ""},
		"blue":     {"blue", ""},
		"nonesuch": {"", "no such file or directory"},
		"file":     {"", "it is not a network namespace"},
	} {
		list, err := Find(filepath.Join(dir, pattern))
		var names []string
		for _, found := range list {
			names = append(names, filepath.Base(found.Path))
		}
		if got := strings.Join(names, " "); got != want.names {
			t.Errorf("%s finds %q, want %q", pattern, got, want.names)
		}
		if (err == nil) != (want.failure == "") || err != nil && !strings.HasSuffix(err.Error(), want.failure) {
			t.Errorf("%s: error %v, want %q", pattern, err, want.failure)
		}
	}
	list, _ := Find(filepath.Join(dir, "*"))
	if ids := []bool{list[0].ID == list[1].ID, list[1].ID == list[2].ID}; !slices.Equal(ids, []bool{true, false}) {
		t.Errorf("the first and the second are one, the second and the third are not: %v", ids)
	}
}

// TestDo works inside, whichever thread calls, and leaves every thread that goes on where it was.
func TestDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blue")
	testnet.NewNamespace(t).Bind(t, path)
	found, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Open(found[0])
	if err != nil {
		t.Fatal(err)
	}
	home, err := Own()
	if err != nil {
		t.Fatal(err)
	}
	failure := errors.New("as expected")
	for range 2 * runtime.GOMAXPROCS(0) {
		err := n.Do(func() error {
			if id, err := Own(); id != found[0].ID {
				t.Errorf("inside %v, %v, want %v", id, err, found[0].ID)
			}
			if unix.Gettid() == unix.Getpid() {
				t.Error("the main thread has left its namespace")
			}
			return failure
		})
		if !errors.Is(err, failure) {
			t.Errorf("error %v, want that of the function", err)
		}
		if id, err := Own(); id != home {
			t.Errorf("home again in %v, %v, want %v", id, err, home)
		}
	}
	if err := Permitted(); err != nil {
		t.Errorf("root is not permitted: %v", err)
	}
	if err := n.Close(); err != nil {
		t.Error(err)
	}
}

// TestOpenAnother: what a path leads to may have changed since it was found.
func TestOpenAnother(t *testing.T) {
	path := filepath.Join(t.TempDir(), "blue")
	testnet.NewNamespace(t).Bind(t, path)
	found, err := Find(path)
	if err != nil {
		t.Fatal(err)
	}
	testnet.Unbind(t, path)
	testnet.NewNamespace(t).Bind(t, path)
	if _, err := Open(found[0]); err == nil || !strings.HasSuffix(err.Error(), "it has become another one") {
		t.Errorf("error %v, want that it is another one", err)
	}
}

// TestCookie: a namespace has the same however it is reached, and another one has another.
func TestCookie(t *testing.T) {
	dir := t.TempDir()
	cookie := func(name string) uint64 {
		t.Helper()
		found, err := Find(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		n, err := Open(found[0])
		if err != nil {
			t.Fatal(err)
		}
		value, err := n.Cookie()
		if err := errors.Join(err, n.Close()); err != nil {
			t.Fatal(err)
		}
		return value
	}
	blue := testnet.NewNamespace(t)
	blue.Bind(t, filepath.Join(dir, "blue"))
	blue.Bind(t, filepath.Join(dir, "again"))
	testnet.NewNamespace(t).Bind(t, filepath.Join(dir, "green"))
	if one, again, other := cookie("blue"), cookie("again"), cookie("green"); one == 0 || again != one || other == one {
		t.Errorf("cookies %d, again %d, and %d of another", one, again, other)
	}
}
