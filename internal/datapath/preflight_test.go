package datapath

import (
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestCheckKernel(t *testing.T) {
	for release, want := range map[string]string{
		"5.15.0":                    "",
		"5.15.0-91-generic":         "",
		"6.1.0-18-amd64":            "",
		"10.0-rc1":                  "",
		"5.14.21-150500.55-default": "the kernel is Linux 5.14: weir needs 5.15 or later",
		"4.18.0-513.el8.x86_64":     "the kernel is Linux 4.18: weir needs 5.15 or later",
		"4.255.0":                   "the kernel is Linux 4.255: weir needs 5.15 or later",
		"next":                      `read the kernel's version from "next"`,
	} {
		err := checkKernel(release)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%s: error %v, want %q", release, err, want)
		}
	}
}

func TestCheckCapabilities(t *testing.T) {
	const bpf, admin, perfmon, sys = 1 << unix.CAP_BPF, 1 << unix.CAP_NET_ADMIN, 1 << unix.CAP_PERFMON, 1 << unix.CAP_SYS_ADMIN
	for _, row := range []struct {
		effective uint64
		lacks     string
	}{
		{bpf | admin | perfmon, ""},
		{sys | admin, ""},
		{0, "CAP_BPF and CAP_NET_ADMIN and CAP_PERFMON"},
		{bpf | admin, "CAP_PERFMON"},
		{bpf | perfmon, "CAP_NET_ADMIN"},
		{sys, "CAP_NET_ADMIN"},
	} {
		err := checkCapabilities(row.effective)
		if row.lacks == "" {
			if err != nil {
				t.Errorf("%#x: %v", row.effective, err)
			}
		} else if err == nil || !strings.Contains(err.Error(), "for lack of "+row.lacks+":") {
			t.Errorf("%#x: error %v, want one that names %s", row.effective, err, row.lacks)
		}
	}
}
