package e2e

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"time"

	"weir/internal/testnet"
)

// TestStartFails: a start that fails leaves no trace, neither in the kernel nor on disk.
func TestStartFails(t *testing.T) {
	namespace := testnet.NewNamespace(t)
	_, in := testnet.Veth(t, testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"}, testnet.End{Namespace: namespace, Name: "in"})
	dir := t.TempDir()
	spool, file := filepath.Join(dir, "spool"), filepath.Join(dir, "file")
	foreign := filepath.Join(dir, "foreign")
	for path, content := range map[string]string{file: "", foreign: "not weir's"} {
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, settings := range map[string][]string{
		"pins":    {"AGENT_SPOOL_DIR=" + spool, "AGENT_PIN_DIR=" + filepath.Join(dir, "pins")}, // in no BPF file system
		"hook":    {"AGENT_SPOOL_DIR=" + spool, "AGENT_INTERFACE=lo", "AGENT_INGRESS_HOOK=xdp"},
		"memory":  {"AGENT_SPOOL_DIR=" + spool, "AGENT_FINGERPRINT_MEMORY=" + filepath.Join(dir, "missing", "memory")},
		"foreign": {"AGENT_SPOOL_DIR=" + spool, "AGENT_FINGERPRINT_MEMORY=" + foreign},
		"disk":    {"AGENT_SPOOL_DIR=" + file, "AGENT_PIN_DIR=" + filepath.Join(testnet.BPFFS(t), "weir")},
	} {
		a := launch(t, namespace, append([]string{"AGENT_INTERFACE=in"}, settings...)...)
		a.wait(t, 10*time.Second)
		if a.exitCode() != 1 {
			t.Errorf("%s: ended with %v, want 1", name, a.err)
		}
		if n := attached(t, in); n != 0 {
			t.Errorf("%s: %d programs stay attached", name, n)
		}
		if _, err := os.Stat(spool); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the spool was opened (%v)", name, err)
		}
	}
	if content, err := os.ReadFile(foreign); err != nil || string(content) != "not weir's" {
		t.Errorf("a foreign file has %q now (%v)", content, err)
	}
}
