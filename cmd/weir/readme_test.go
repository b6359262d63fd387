package main

import (
	"os"
	"strings"
	"testing"

	"weir/internal/config"
)

// TestReadmeSettings: README.md has the reference of the settings as the code knows them, group by group.
func TestReadmeSettings(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	reference, err := config.Reference()
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), reference) {
		t.Errorf("README.md does not have this text:\n%s", reference)
	}
}
