package e2e

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"weir/internal/testnet"
)

// TestStartFails: a start that fails leaves nothing in the kernel, and what the disk or the settings are to blame for fails before
// anything is attached. A start that the kernel refuses has not opened the spool.
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
	refused := map[string][]string{
		"pins":    {"AGENT_SPOOL_DIR=" + spool, "AGENT_PIN_DIR=" + filepath.Join(dir, "pins")}, // in no BPF file system
		"hook":    {"AGENT_INTERFACE=lo", "AGENT_INGRESS_HOOK=xdp"},
		"output":  {"AGENT_ENDPOINT_URL=file:" + filepath.Join(dir, "missing", "events"), "AGENT_SPOOL_DIR=" + spool},
		"memory":  {"AGENT_SPOOL_DIR=" + spool, "AGENT_FINGERPRINT_MEMORY=" + filepath.Join(dir, "missing", "memory")},
		"foreign": {"AGENT_SPOOL_DIR=" + spool, "AGENT_FINGERPRINT_MEMORY=" + foreign},
		"disk":    {"AGENT_SPOOL_DIR=" + file, "AGENT_PIN_DIR=" + filepath.Join(testnet.BPFFS(t), "weir")},
	}
	for name, settings := range refused {
		a := launch(t, namespace, append([]string{"AGENT_INTERFACE=in"}, settings...)...)
		a.wait(t, 10*time.Second)
		if a.exitCode() != 1 {
			t.Errorf("%s: ended with %v, want 1", name, a.err)
		}
		if n := attached(t, in); n != 0 {
			t.Errorf("%s: %d programs stay attached", name, n)
		}
		if name != "hook" && strings.Contains(a.stderr.String(), `"attached"`) {
			t.Errorf("%s: attached before it failed:\n%s", name, a.stderr.String())
		}
		if _, err := os.Stat(spool); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: the spool was opened (%v)", name, err)
		}
	}
	if content, err := os.ReadFile(foreign); err != nil || string(content) != "not weir's" {
		t.Errorf("a foreign file has %q now (%v)", content, err)
	}
}

// TestStoppedDuringStart: a stop that comes while the kernel verifies the programs does not wait for it, and is one as any other.
func TestStoppedDuringStart(t *testing.T) {
	namespace := testnet.NewNamespace(t)
	_, in := testnet.Veth(t, testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"}, testnet.End{Namespace: namespace, Name: "in"})
	for _, signal := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		a := launch(t, namespace, "AGENT_INTERFACE=in", "AGENT_FINGERPRINTS=all", "AGENT_DECAP=vxlan,gre")
		testnet.Eventually(t, "weir listens, and loads", func() bool {
			return namespace.Do(func() error {
				conn, err := net.Dial("tcp", metricsAddr)
				if err != nil {
					return err
				}
				return conn.Close()
			}) == nil
		})
		if err := a.cmd.Process.Signal(signal); err != nil {
			t.Fatal(err)
		}
		a.wait(t, 5*time.Second)
		if printed := a.stderr.String(); a.err != nil || !strings.Contains(printed, "stopped before anything was counted") {
			t.Errorf("%s: ended with %v:\n%s", signal, a.err, printed)
		}
		if n := attached(t, in); n != 0 {
			t.Errorf("%s: %d programs stay attached", signal, n)
		}
	}
}

// TestContained: weir starts and stops as the first process of a container, which is not root and has the three capabilities only.
func TestContained(t *testing.T) {
	namespace := testnet.NewNamespace(t)
	_, in := testnet.Veth(t, testnet.End{Namespace: testnet.NewNamespace(t), Name: "out"}, testnet.End{Namespace: namespace, Name: "in"})
	cmd := exec.Command(binary)
	cmd.SysProcAttr = nobody()
	cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWPID
	a := launchBy(t, namespace, cmd, "AGENT_INTERFACE=in")
	a.ready(t)
	if n := attached(t, in); n != 2 {
		t.Errorf("%d programs attached, want 2", n)
	}
	a.terminate(t)
	if n := attached(t, in); n != 0 {
		t.Errorf("%d programs stay attached", n)
	}
}
