// Package testja4 reads the captures by which FoxIO tests its own implementations of JA4+, and what they print for them. Both
// are kept beside the repository, which has none of them. For tests only.
package testja4

import (
	"os"
	"path/filepath"
	"testing"
)

// Captures returns the paths of the captures. Without them the test is skipped, or fails if WEIR_TESTDATA says under CI where
// they are.
func Captures(t testing.TB) []string {
	t.Helper()
	root, set := os.LookupEnv("WEIR_TESTDATA")
	if !set {
		root = filepath.Join(repository(t), "../shared/testdata")
	}
	files, err := filepath.Glob(filepath.Join(root, "ja4/pcap/*.pcap*"))
	switch {
	case err != nil:
		t.Fatalf("look for captures: %v", err)
	case len(files) == 0 && set && os.Getenv("CI") != "":
		t.Fatalf("there are no captures in %s", root)
	case len(files) == 0:
		t.Skipf("there are no captures in %s", root)
	}
	return files
}

// repository returns the folder that the test's package is somewhere within.
func repository(t testing.TB) string {
	t.Helper()
	folder, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for folder != filepath.Dir(folder) {
		if _, err := os.Stat(filepath.Join(folder, "go.mod")); err == nil {
			return folder
		}
		folder = filepath.Dir(folder)
	}
	t.Fatal("the test does not run within the repository")
	return ""
}
