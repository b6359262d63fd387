package datapath

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"golang.org/x/sys/unix"
)

// The oldest kernel with everything that the programs need: 5.15, the first long-term one with syscall programs (5.14)
// and bpf_for_each_map_elem (5.13).
const minMajor, minMinor = 5, 15

// checkKernel takes a release as uname(2) gives it, such as "6.1.0-18-amd64".
func checkKernel(release string) error {
	var major, minor int
	if _, err := fmt.Sscanf(release, "%d.%d", &major, &minor); err != nil {
		return fmt.Errorf("read the kernel's version from %q: %w", release, err)
	}
	if major < minMajor || major == minMajor && minor < minMinor {
		return fmt.Errorf("the kernel is Linux %d.%d: weir needs %d.%d or later", major, minor, minMajor, minMinor)
	}
	return nil
}

// kernelRelease returns what uname -r prints.
func kernelRelease() (string, error) {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		return "", fmt.Errorf("read the kernel's version: %w", err)
	}
	release, _, _ := bytes.Cut(name.Release[:], []byte{0})
	return string(release), nil
}

// needed are the capabilities that loading and attaching take. CAP_PERFMON is for the verifier: without it a program may
// not read at a variable offset, as behind IPv4 options.
var needed = []struct {
	name   string
	number uint
	admin  bool // CAP_SYS_ADMIN stands for it
}{
	{"CAP_BPF", unix.CAP_BPF, true},
	{"CAP_NET_ADMIN", unix.CAP_NET_ADMIN, false},
	{"CAP_PERFMON", unix.CAP_PERFMON, true},
}

// checkCapabilities takes the effective set, a bit for each capability.
func checkCapabilities(effective uint64) error {
	has := func(number uint) bool { return effective&(1<<number) != 0 }
	var missing []string
	for _, c := range needed {
		if !has(c.number) && !(c.admin && has(unix.CAP_SYS_ADMIN)) {
			missing = append(missing, c.name)
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return fmt.Errorf("not permitted, for lack of %s: run weir as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON",
		strings.Join(missing, " and "))
}

// effectiveCapabilities returns those of the calling thread.
func effectiveCapabilities() (uint64, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData // the low and the high 32 capabilities
	if err := unix.Capget(&header, &data[0]); err != nil {
		return 0, fmt.Errorf("read the process's capabilities: %w", err)
	}
	return uint64(data[1].Effective)<<32 | uint64(data[0].Effective), nil
}

// preflight says what would keep the kernel side from loading, before the kernel does so in words of its own.
func preflight() error {
	release, err := kernelRelease()
	if err != nil {
		return err
	}
	if err := checkKernel(release); err != nil {
		return err
	}
	capabilities, err := effectiveCapabilities()
	if err != nil {
		return err
	}
	return checkCapabilities(capabilities)
}

// haveXDPFragments says whether the kernel takes XDP programs that see frames in fragments (Linux 5.18).
func haveXDPFragments() bool {
	return !errors.Is(features.HaveProgramHelper(ebpf.XDP, asm.FnXdpGetBuffLen), ebpf.ErrNotSupported)
}

// bytesPerFlow returns what the maps take for each connection, with their own: memlock in /proc/self/fdinfo.
func (c *Config) bytesPerFlow() uint64 {
	const slot, streams, handshake = 162, 60, 210 // of a slot and a quarter, each with its tag
	size := uint64(slot)
	if c.Samples.needStreams() {
		size += streams
	}
	if c.Samples&SampleHandshakes != 0 {
		size += handshake
	}
	return size
}

// explain puts the usual cause in front of a kernel's refusal to load.
func (c Config) explain(err error) error {
	if errors.Is(err, unix.ENOMEM) {
		return fmt.Errorf("no memory: a map of %d flows takes %d MiB, which count to the service's or container's "+
			"memory limit: %w", c.MaxFlows, uint64(c.MaxFlows)*c.bytesPerFlow()>>20, err)
	}
	return err
}
