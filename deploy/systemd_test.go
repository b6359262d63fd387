package deploy_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"weir/internal/testnet"
)

// unitFile reads a systemd unit: the values of each key, in order, by "Section.Key".
func unitFile(t *testing.T, path string) map[string][]string {
	t.Helper()
	unit, section := map[string][]string{}, ""
	for line := range strings.Lines(string(readFile(t, path))) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		key, value, ok := strings.Cut(line, "=")
		if !ok {
			t.Fatalf("%s: %q is no setting", path, line)
		}
		unit[section+"."+key] = append(unit[section+"."+key], value)
	}
	return unit
}

func TestSystemd(t *testing.T) {
	unit := unitFile(t, "systemd/weir.service")
	three := "CAP_" + strings.Join(capabilities, " CAP_")
	for key, want := range map[string]string{
		"ExecStart":                "/usr/local/bin/weir run",
		"EnvironmentFile":          "-/etc/weir/weir.env",
		"Restart":                  "on-failure",
		"RestartPreventExitStatus": "2", // a usage error
		"DynamicUser":              "yes",
		"AmbientCapabilities":      three,
		"CapabilityBoundingSet":    three,
		"NoNewPrivileges":          "yes",
		"ProtectSystem":            "strict",
		"ProtectHome":              "yes",
		"PrivateTmp":               "yes",
		"PrivateDevices":           "yes",
		"ProtectControlGroups":     "yes",
		"ProtectKernelTunables":    "yes",
		"ProtectKernelModules":     "yes",
		"ProtectKernelLogs":        "yes",
		"RestrictNamespaces":       "yes",
		"LockPersonality":          "yes",
		"MemoryDenyWriteExecute":   "yes",
		"RestrictAddressFamilies":  "AF_INET AF_INET6 AF_NETLINK AF_UNIX",
		// bpf last: @privileged, which is taken out, has it too.
		"SystemCallFilter": "@system-service; ~@privileged @resources; bpf",
	} {
		equal(t, key, strings.Join(unit["Service."+key], "; "), want)
	}

	set, _ := envFile(t, "systemd/weir.env")
	s := settings(t, append(set, unit["Service.Environment"]...))
	value := func(key string) string { return strings.Join(unit["Service."+key], "; ") }
	checkStop(t, duration(t, value("TimeoutStopSec")), s)
	goLimit := find(t, "systemd/weir.service", `^Environment=GOMEMLIMIT=(\S+)$`)
	checkMemory(t, mebibytes(t, value("MemoryMax"), "M"), mebibytes(t, goLimit, "MiB"), s)
	equal(t, "where the spool is", filepath.Dir(s.SpoolDir), "/var/lib/"+value("StateDirectory"))

	pins := unitFile(t, "systemd/pins.conf")
	s = settings(t, append(set, pins["Service.Environment"]...))
	equal(t, "what may be written to", pins["Service.ReadWritePaths"], []string{filepath.Dir(s.PinDir)})
	// With it systemd makes /sys/fs/bpf read-only, whatever else is said.
	equal(t, "ProtectKernelTunables with pins", pins["Service.ProtectKernelTunables"], []string{"no"})
	equal(t, "the folder to unpin", find(t, "systemd/weir.service", `weir unpin --pin-dir (\S+)$`), s.PinDir)
}

// TestSystemdUnderstands holds that systemd has nothing to say of the unit, alone and with the pins: it passes over what it does
// not understand, with a line in the log.
func TestSystemdUnderstands(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		testnet.Unavailable(t, err)
	}
	unit := filepath.Join(t.TempDir(), "weir.service")
	// The binary has to be there; any is.
	text := strings.Replace(string(readFile(t, "systemd/weir.service")), "ExecStart=/usr/local/bin/weir", "ExecStart=/bin/true", 1)
	for _, file := range []struct{ path, content string }{{unit, text}, {unit + ".d/pins.conf", string(readFile(t, "systemd/pins.conf"))}} {
		if err := os.MkdirAll(filepath.Dir(file.path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file.path, []byte(file.content), 0o644); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("systemd-analyze", "verify", unit).CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("systemd says: %v\n%s", err, out)
		}
	}
}
