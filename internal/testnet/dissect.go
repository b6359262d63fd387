package testnet

import (
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Dissect returns what tshark finds in each packet of a capture file: of each field the values, in their order.
func Dissect(t testing.TB, file string, fields ...string) [][][]string {
	t.Helper()
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "aggregator=/s"}
	for _, field := range fields {
		args = append(args, "-e", field)
	}
	command := exec.CommandContext(t.Context(), "tshark", args...)
	command.Env = append(os.Environ(), "HOME="+t.TempDir()) // nobody's preferences
	out, err := command.Output()
	if errors.Is(err, exec.ErrNotFound) {
		Unavailable(t, err)
	}
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var found [][][]string
	for line := range strings.Lines(string(out)) {
		var values [][]string
		for column := range strings.SplitSeq(strings.TrimSuffix(line, "\n"), "\t") {
			values = append(values, strings.Fields(column))
		}
		found = append(found, values)
	}
	return found
}
