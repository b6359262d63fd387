package e2e

import (
	"os/exec"
	"strings"
	"testing"

	"weir/internal/testnet"
)

// tool returns the path of a program, without which the test ends.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		testnet.Unavailable(t, err)
	}
	return path
}

// run runs a program in a namespace to its end with something to read.
func run(t *testing.T, in *testnet.Namespace, input, name string, args ...string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), tool(t, name), args...)
	var printed output
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &printed, &printed
	err := in.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", cmd, err, printed.String())
	}
}

// background runs a program in a namespace until the test ends, and collects what it prints.
func background(t *testing.T, in *testnet.Namespace, cmd *exec.Cmd) *output {
	t.Helper()
	printed := new(output)
	cmd.Stdout, cmd.Stderr = printed, printed
	if err := in.Do(cmd.Start); err != nil {
		t.Fatalf("start %s: %v", cmd, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s printed:\n%s", cmd.Path, printed.String())
		}
	})
	return printed
}
